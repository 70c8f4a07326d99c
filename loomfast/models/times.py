"""What networks of two times share."""


def check_end(config, t, end):
    """Raise ValueError unless ``end`` is None, or fits the times ``t`` (B,) and a network of two times."""
    if end is None:
        return
    if not config.two_times:
        raise ValueError("this network takes one time: leave end out, or train one with a flow-map objective")
    if end.shape != t.shape:
        raise ValueError(f"end must have t's shape {tuple(t.shape)}, got {tuple(end.shape)}")
