"""The report's figures as SVG, made of the results of jobs."""

import io

from report.equal_time import price_of
from report.tables import entry, rows_of


def figures(results):
    """Return {name: SVG text} of the figures for which there are results."""
    found = {
        "distance_nfe": _by_nfe(results),
        "distance_time": _by_time(results),
        "settling": _settling(results),
    }
    return {name: svg for name, svg in found.items() if svg}


def _axes(columns=1):
    import matplotlib

    matplotlib.use("Agg")
    # The same text for the same results: no date, and ids that are no random numbers.
    matplotlib.rcParams.update({"svg.hashsalt": "loomfast", "svg.fonttype": "none"})
    import matplotlib.pyplot as plt
    from cycler import cycler

    # Twenty lines that can be told apart: colours first, then dashes.
    styles = cycler(linestyle=["-", "--"]) * plt.rcParamsDefault["axes.prop_cycle"]
    matplotlib.rcParams["axes.prop_cycle"] = styles
    return plt.subplots(1, columns, figsize=(5 * columns, 3.8), layout="constrained", squeeze=False)


def _svg(figure):
    import matplotlib.pyplot as plt

    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    plt.close(figure)
    return text.getvalue()


def _first_seeds(results, studies=("couplings", "ablations")):
    for study in studies:
        for (_, title), jobs in rows_of(study).items():
            if jobs[0].name in results:
                yield title, results[jobs[0].name]


def _by_nfe(results):
    runs = dict(_first_seeds(results, ("couplings", "one-step")))
    if not runs:
        return None
    figure, grid = _axes()
    axes = grid[0, 0]
    for title, result in runs.items():
        nfes = [e["nfe"] for e in result["samples"]]
        axes.plot(nfes, [entry(result, n)["frechet"] for n in nfes], marker=".", label=title)
    _finish(axes, "function evaluations", "Fréchet distance (seed 0)")
    return _svg(figure)


def _by_time(results):
    found = [(title, r) for title, r in _first_seeds(results) if r.get("stages")]
    runs = {title: (r, price_of(results, title)) for title, r in found}
    runs = {title: (r, price) for title, (r, price) in runs.items() if price is not None}
    if not runs:
        return None
    figure, grid = _axes(2)
    for axes, nfe in zip(grid[0], ("1", "8"), strict=True):
        for title, (result, (step, preparation)) in runs.items():
            stages = [s for s in result["stages"] if nfe in s["frechet"]]
            axes.plot(
                [preparation + step * s["step"] for s in stages],
                [s["frechet"][nfe] for s in stages],
                marker=".",
                label=title,
            )
        _finish(axes, "time, in steps of independent noise", f"Fréchet distance, {nfe} NFE (seed 0)")
    return _svg(figure)


def _settling(results):
    runs = dict(_first_seeds(results))
    if not runs:
        return None
    figure, grid = _axes(2)
    for axes, key, label in zip(
        grid[0], ("swaps", "cost_after"), ("reassignments in a batch", "cost of a pair"), strict=True
    ):
        for title, result in runs.items():
            curve = result["settling"]
            axes.plot(curve["steps"], curve[key], label=title)
        axes.set_xlabel("step")
        axes.set_title(label)
        axes.legend(frameon=False, fontsize=7)
    return _svg(figure)


def _finish(axes, x, y):
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_title(y)
    axes.legend(frameon=False, fontsize=7)
