"""What networks may be asked for beside the velocity at a time: its average to a second one, or the score."""


def check_end(config, t, end):
    """Raise ValueError unless ``end`` is None, or fits the times ``t`` (B,) and a network of two times."""
    if end is None:
        return
    if not config.two_times:
        raise ValueError("this network takes one time: leave end out, or train one with a flow-map objective")
    if end.shape != t.shape:
        raise ValueError(f"end must have t's shape {tuple(t.shape)}, got {tuple(end.shape)}")


def check_score(config, score):
    """Raise ValueError if a ``score`` is asked of a network without a score head."""
    if score and not config.score_head:
        raise ValueError(
            "this network has no score: leave score out, or train one with --path bridge --score"
        )
