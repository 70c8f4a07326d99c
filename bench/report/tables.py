"""The report's tables as Markdown, made of the results of jobs."""

import numpy as np

from loomfast.files import read_json
from report import equal_time
from report.claims import claims, verdict
from report.table import NFE, STEPS, all_jobs

NOT_RUN = "not run"
DRAWS = 2000  # of the bootstrap over seeds


def read_results(folder):
    """Return the results of all jobs that are done, {name: result}."""
    paths = {job.name: folder / f"{job.name}.json" for job in all_jobs()}
    return {name: read_json(path) for name, path in paths.items() if path.exists()}


def rows_of(study):
    """Return {title: [Job of each seed]} of a study, in the order of the table."""
    rows = {}
    for job in all_jobs():
        if job.study == study:
            rows.setdefault((job.task, job.title), []).append(job)
    return rows


def mean_of(values, errors=None):
    """Return "mean [low, high]" of the values of seeds, or the value alone where there is one without error.

    The interval is of a bootstrap over seeds, each drawn from a normal law of its standard error.
    """
    values = np.asarray(values, float)
    errors = np.zeros_like(values) if errors is None else np.asarray(errors, float)
    if len(values) == 1 and not errors.any():
        return number(values[0])
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(values), size=(DRAWS, len(values)))
    drawn = (values[chosen] + errors[chosen] * rng.standard_normal(chosen.shape)).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{number(values.mean())} [{number(max(low, 0))}, {number(high)}]"


def number(value):
    """Return a number in three digits, none of them in the form of an exponent."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def markdown(headers, rows):
    """Return a Markdown table."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def entry(result, nfe):
    """Return what was measured at this number of evaluations, or None."""
    return next((e for e in result["samples"] if e["nfe"] == nfe), None)


def image_table(results, study):
    """Return the distances of a study of images against evaluations; a row for each coupling."""
    measure = "exact_w2" if study == "patches32" else "frechet"
    headers = ["run", "seeds", *[f"{n} NFE" for n in NFE], "curvature"]
    rows = []
    for (_, title), jobs in rows_of(study).items():
        found = [results[job.name] for job in jobs if job.name in results]
        if not found:
            rows.append([title, NOT_RUN, *[""] * (len(headers) - 2)])
            continue
        cells = [_cell(found, nfe, measure) for nfe in NFE]
        curved = [r["curvature"] for r in found if "curvature" in r]
        seeds = ", ".join(str(r["seed"]) for r in found)
        rows.append([title, seeds, *cells, mean_of(curved) if curved else ""])
    return markdown(headers, rows)


def _cell(found, nfe, measure):
    entries = [e for e in (entry(r, nfe) for r in found) if e]
    if not entries:
        return ""
    errors = [e.get(f"{measure}_standard_error", 0) for e in entries]
    return mean_of([e[measure] for e in entries], errors)


def equal_time_table(results):
    """Return what each run had reached when independent noise had done all its steps: distances by stages."""
    headers = ["run", "seeds", "a step", "preparation", "steps done", "1 NFE", "8 NFE"]
    time, rows = STEPS["digits"], []
    for study in ("couplings", "ablations"):
        for (_, title), jobs in rows_of(study).items():
            found = [results[job.name] for job in jobs if job.name in results]
            price = equal_time.price_of(results, title)
            if not found or price is None:
                continue
            done = min((time - price[1]) / price[0], time)
            times = equal_time.times_of(results, title, [stage["step"] for stage in found[0]["stages"]])
            # What is faster than the reference by the noise of the clock has done its steps at that time.
            last = min(time, times[-1])
            cells = [[equal_time.at_time(r, times, last, nfe) for r in found] for nfe in (1, 8)]
            shown = ["not reached" if None in values else mean_of(values) for values in cells]
            seeds = ", ".join(str(r["seed"]) for r in found)
            rows.append([title, seeds, number(price[0]), number(price[1]), max(round(done), 0), *shown])
    return markdown(headers, rows or [[NOT_RUN, *[""] * (len(headers) - 1)]])


def claims_table(results):
    """Return what was to be reached, and what was."""
    rows = []
    for claim in claims():
        found = verdict(results, claim)
        if found is None:
            rows.append([claim.text, "", "", NOT_RUN])
            continue
        seeds, ratio, kept = found
        rows.append(
            [claim.text, ", ".join(map(str, seeds)), number(ratio), "reached" if kept else "falls short"]
        )
    return markdown(["to reach", "seeds", "ratio", "result"], rows)


def seeds_table(results):
    """Return every seed of every run of digits by itself: nothing is a mean."""
    headers = ["run", "seed", *[f"{n} NFE" for n in NFE], "curvature"]
    rows = []
    for study in ("couplings", "ablations", "one-step", "kinds"):
        for (_, title), jobs in rows_of(study).items():
            for r in (results[job.name] for job in jobs if job.name in results):
                cells = [entry(r, n) for n in NFE]
                cells = ["" if e is None else number(e["frechet"]) for e in cells]
                curved = number(r["curvature"]) if "curvature" in r else ""
                rows.append([title, r["seed"], *cells, curved])
    return markdown(headers, rows or [[NOT_RUN, *[""] * (len(headers) - 1)]])


def plane_table(results):
    """Return distance and normalised path energy of the jobs in the plane."""
    headers = [
        "source → target",
        "coupling",
        "seeds",
        "W2, 1 step",
        "W2, 100 steps",
        "of two draws",
        "energy",
    ]
    rows = []
    for (task, title), jobs in rows_of("plane").items():
        found = [results[job.name] for job in jobs if job.name in results]
        name = " → ".join(task)
        if not found:
            rows.append([name, title, NOT_RUN, "", "", "", ""])
            continue
        w2 = [mean_of([entry(r, n)["w2"] for r in found]) for n in (1, 100)]
        floor, energy = (mean_of([r[key] for r in found]) for key in ("w2_of_draws", "energy"))
        rows.append([name, title, ", ".join(str(r["seed"]) for r in found), *w2, floor, energy])
    return markdown(headers, rows)


def guidance_table(results):
    """Return distance and diversity against the weight of guidance."""
    headers = ["run", "weight", "Fréchet, 8 NFE", "precision", "recall", "coverage"]
    rows = []
    for (_, title), jobs in rows_of("guidance").items():
        if jobs[0].name not in results:
            rows.append([title, NOT_RUN, "", "", "", ""])
            continue
        for weight, found in results[jobs[0].name]["guidance"].items():
            one = found["samples"][0]
            cells = [number(one[key]) for key in ("frechet", "precision", "recall", "coverage")]
            rows.append([title, weight, *cells])
    return markdown(headers, rows)


TABLES = {
    "What was to be reached": claims_table,
    "Couplings on digits, equal steps": lambda results: image_table(results, "couplings"),
    "Ablations on digits, equal steps": lambda results: image_table(results, "ablations"),
    "Digits, equal time": equal_time_table,
    "One step: flow maps and reflow": lambda results: image_table(results, "one-step"),
    "Kinds of flow maps": lambda results: image_table(results, "kinds"),
    "Guidance": guidance_table,
    "patches32 (exact W2 in pixels)": lambda results: image_table(results, "patches32"),
    "In the plane": plane_table,
    "Every seed": seeds_table,
}
PICTURE = "[![the page](page.png)](index.html)"
CONDITIONS = """Digits: 800 steps of 128, Fréchet distance of 1000 fresh samples to 355 held-out digits on the
features of a small classifier; Euler at 1 evaluation, midpoint above. Mean over the seeds named, with a 95 %
bootstrap interval over seeds and samples, the reference as it is. Equal time: what each had reached when
independent noise had done all its steps, by stages of the training; a step and the preparation are told
in steps of independent noise, from medians of CPU seconds of steps by turns in one process. What is not yet
run says so."""


def all_tables(results):
    """Return all tables with their headings, as Markdown."""
    done, total = len(results), len(all_jobs())
    done = f"{done} of {total} runs are done (`python bench/science.py run`)."
    head = ["# Results", PICTURE, CONDITIONS, done]
    return "\n\n".join([*head, *[f"## {name}\n\n{make(results)}" for name, make in TABLES.items()]]) + "\n"
