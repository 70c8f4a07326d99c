"""The table of runs: every coupling, ablation and one-step route that the report compares.

A job is named after what it is; its results are ``bench/results/science/NAME.json``.
"""

from dataclasses import dataclass, field

SEEDS = (0, 1, 2)
PLANE_SEEDS = (0, 1, 2, 3, 4)
STEPS = {"digits": 800, "patches32": 500, "flow-map": 300, "reflow": 400, "plane": 4000}
NFE = (1, 2, 4, 8, 40)
GUIDANCE = (1.0, 1.5, 2.0, 3.0, 4.0)

# Title and coupling of each run on digits: 16 noises an item and batches of 128 unless it says so.
DIGITS = {
    "independent": ("independent", {"method": "independent"}),
    "loom-16": ("LOOM, 16 caches", {"method": "loom", "num_caches": 16}),
    "minibatch-ot": ("minibatch OT (LOOM without saving)", {"method": "minibatch-ot"}),
    "global": ("global from the start", {"method": "loom", "num_caches": 16}),
    "semidiscrete": ("semidiscrete, exact prices", {"method": "semidiscrete"}),
    "sinkhorn": ("Sinkhorn", {"method": "sinkhorn"}),
    "nearest": ("nearest of 4", {"method": "nearest"}),
    "conditional": ("C²OT, by class", {"method": "conditional"}),
}
ABLATIONS = {
    "loom-4": ("LOOM, 4 caches", {"method": "loom", "num_caches": 4}),
    "loom-1": ("LOOM, 1 cache", {"method": "loom", "num_caches": 1}),
    "loom-2": ("LOOM, 2 caches", {"method": "loom", "num_caches": 2}),
    "fixed-source": ("fixed source", {"method": "fixed-source"}),
    "converged": ("LOOM, converged before training", {"method": "loom", "num_caches": 16}),
    "global-after-loom": ("global after LOOM", {"method": "loom", "num_caches": 16}),
    "semidiscrete-learned": ("semidiscrete, learned prices", {"method": "semidiscrete"}),
    "mixed": ("mixed, half LOOM, half independent", {"method": "mixed", "num_caches": 16}),
}
BATCHES = (32, 64)  # and 128 above
# What has to be made before a run can begin; see report.jobs.
PREPARED = {
    "global": "global",
    "semidiscrete": "global",
    "converged": "converged",
    "global-after-loom": "global-after-loom",
}
PATCHES = ("independent", "minibatch-ot", "loom-4", "global", "semidiscrete")
ONE_STEP = ("loom-16", "independent", "global")  # couplings whose runs are distilled and reflowed
KINDS = ("lmd", "esd", "psd", "meanflow")  # beside lsd, for one seed
GUIDED = {
    "independent": ("independent", {"method": "independent"}),
    "loom": ("LOOM within classes", {"method": "loom", "num_caches": 16, "label_weight": 1e4}),
}
# The runs whose steps are timed by turns; a solve between two halves of one is not a part of its steps.
CLOCKED = tuple(f"digits-{name}-seed0" for name in {**DIGITS, **ABLATIONS} if name != "global-after-loom")
PLANES = (("normal", "8gaussians"), ("8gaussians", "moons"), ("normal", "moons"), ("normal", "scurve"))
PLANE_COUPLINGS = {
    "independent": "independent",
    "minibatch-ot": "minibatch OT",
    "sinkhorn": "Sinkhorn",
    "loom": "LOOM, 4 caches",
    "global": "global",
}


@dataclass(frozen=True)
class Job:
    """A run of the report.

    kind: ``train``, ``distill``, ``reflow``, ``guided``, ``plane`` or ``clock``. study: the table it belongs
    to. base: name of the job whose run it begins with. prepare: what is made before it. settings: fields of
    TrainConfig; coupling: of CouplingConfig.
    """

    name: str
    kind: str
    study: str
    title: str
    seed: int
    steps: int
    coupling: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)
    prepare: str = ""
    base: str = ""
    task: tuple = ()


def all_jobs():
    """Return every Job, in the order in which they are run: what is compared first, first; no name twice."""
    first, other, batches = [], [], []
    for seed in SEEDS:
        first += [_digits(name, DIGITS[name], "couplings", seed) for name in DIGITS]
        other += [_digits(name, ABLATIONS[name], "ablations", seed) for name in ABLATIONS]
        for size in BATCHES:
            title, coupling = DIGITS["loom-16"]
            job = _digits(f"loom-16-batch{size}", (f"{title}, batch {size}", coupling), "ablations", seed)
            batches.append(_with_settings(job, batch_size=size))
    count = len(DIGITS)
    one_step = [job for seed in SEEDS for job in _one_step(seed)]
    planes = [
        _plane(*task, method, seed) for seed in PLANE_SEEDS for task in PLANES for method in PLANE_COUPLINGS
    ]
    per_seed = len(PLANES) * len(PLANE_COUPLINGS)
    return [
        *first[:3],
        *planes[:per_seed],
        *first[3:count],
        Job("digits-clock", "clock", "clock", "seconds of a step", 0, 0),
        *one_step[: len(ONE_STEP) * 2],
        *other[: len(ABLATIONS)],
        *first[count:],
        *_guided(),
        *_kinds(),
        *_patches(),
        *batches,
        *other[len(ABLATIONS) :],
        *one_step[len(ONE_STEP) * 2 :],
        *planes[per_seed:],
    ]


def _digits(name, run, study, seed):
    title, coupling = run
    return Job(
        name=f"digits-{name}-seed{seed}",
        kind="train",
        study=study,
        title=title,
        seed=seed,
        steps=STEPS["digits"],
        coupling=coupling,
        prepare=PREPARED.get(name, ""),
    )


def _with_settings(job, **settings):
    return Job(**{**vars(job), "settings": settings})


def _one_step(seed):
    """Return the flow maps and the reflows of a seed."""
    jobs = []
    for name in ONE_STEP:
        base = f"digits-{name}-seed{seed}"
        common = {"study": "one-step", "seed": seed, "base": base}
        title = DIGITS[name][0]
        jobs.append(
            Job(
                f"{base}-lsd",
                "distill",
                title=f"flow map (lsd) of {title}",
                steps=STEPS["flow-map"],
                settings={"objective": "lsd"},
                **common,
            )
        )
        jobs.append(
            Job(f"{base}-reflow", "reflow", title=f"reflow of {title}", steps=STEPS["reflow"], **common)
        )
    return jobs


def _kinds():
    """Return the other kinds of flow maps, of one run."""
    base = "digits-loom-16-seed0"
    return [
        Job(
            f"{base}-{kind}",
            "distill",
            "kinds",
            f"{kind} of {DIGITS['loom-16'][0]}",
            0,
            STEPS["flow-map"],
            settings={"objective": kind},
            base=base,
        )
        for kind in KINDS
    ]


def _guided():
    return [
        Job(f"digits-guided-{name}-seed0", "guided", "guidance", title, 0, STEPS["digits"], coupling)
        for name, (title, coupling) in GUIDED.items()
    ]


def _patches():
    jobs = []
    for name in PATCHES:
        title, coupling = {**DIGITS, **ABLATIONS}[name]
        coupling = {**coupling, "num_caches": 4}
        jobs.append(
            Job(
                f"patches32-{name}-seed0",
                "train",
                "patches32",
                title.replace("16", "4"),
                0,
                STEPS["patches32"],
                coupling,
                {"batch_size": 64},
                PREPARED.get(name, ""),
            )
        )
    return jobs


def _plane(source, target, method, seed):
    return Job(
        f"plane-{source}-{target}-{method}-seed{seed}",
        "plane",
        "plane",
        PLANE_COUPLINGS[method],
        seed,
        STEPS["plane"],
        {"method": method},
        task=(source, target),
    )
