"""SIGKILL at random moments of reflow, distill and the report: the end is that of a run left alone.

    python tests/kills_run.py FOLDER

The work is begun, killed, and begun again, until it was killed `KILLS` times and came to its end. A process
of its own that has one thread, and has loaded everything, forks the work.
"""

import multiprocessing
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
from report.configs import TRIAL
from report.jobs import Sitting, run_jobs
from report.table import Job
from untrained import POINTS, images

from loomfast.cli import main
from loomfast.config import CouplingConfig, TrainConfig
from loomfast.files import read_json, read_tensors
from loomfast.training.loop import train

KILLS = 3
FORK = multiprocessing.get_context("fork")
COMMON = ["--steps", "60", "--checkpoint-every", "7"]


def reflow(out):
    """Make pairs with a run of points and train on them."""
    words = ["reflow", "run", "--num", "300", "--nfe", "8", "--pairs", f"{out}/pairs"]
    raise SystemExit(main([*words, *COMMON, "--out", f"{out}/run"]))


def distill(out):
    """Make a flow map of a run of points, with its coupling going on."""
    raise SystemExit(main(["distill", "run", *COMMON, "--out", f"{out}/run"]))


def report(out):
    """Run two jobs of the report at few steps, one of them a flow map of the other's run."""
    loom, settings = {"method": "loom", "num_caches": 2}, {"batch_size": 16, "model": images()}
    base = Job("digits-base-seed0", "train", "couplings", "base", 0, 8, loom, settings)
    common = {"settings": {"objective": "lsd"}, "base": base.name}
    jobs = [base, Job("digits-map-seed0", "distill", "one-step", "map", 0, 4, **common)]
    run_jobs(Sitting(out / "results", out / "runs", jobs=jobs, effort=TRIAL), jobs)


def contents(out):
    """Return all that the work made, by name; without clocks, and without what a run keeps of its start."""
    found = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = str(path.relative_to(out))
        if path.suffix == ".safetensors":
            tensors, metadata = read_tensors(path)
            found[name] = ({key: value.tobytes() for key, value in tensors.items()}, metadata)
        elif path.suffix == ".npy":
            found[name] = path.read_bytes()
        elif path.suffix == ".json" and "results" in name:
            found[name] = _without_clocks(read_json(path), str(out))
    return found


def _without_clocks(value, folder):
    if isinstance(value, dict):
        return {k: _without_clocks(v, folder) for k, v in value.items() if not k.endswith("cpu_seconds")}
    if isinstance(value, list):
        return [_without_clocks(v, folder) for v in value]
    return value.removeprefix(folder) if isinstance(value, str) else value


def start(work, out):
    process = FORK.Process(target=silently, args=(work, out))
    process.start()
    return process


def silently(work, out):
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1), os.dup2(said, 2)
    work(out)


def wait_for_writing(process, folder, number):
    """Return when so many changes of files were seen, or the process is at its end."""
    last = written(folder)
    while process.is_alive() and number:
        time.sleep(0.002)
        now = written(folder)
        number -= now != last
        last = now


def written(folder):
    """Return when each file was last written, and its size; without those that go meanwhile."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            about = path.stat()
            found[path] = (about.st_mtime_ns, about.st_size)
    return found


def killed(work, rng):
    """Kill the work, begin it again, and so on; then compare what it made with a run left alone."""
    undisturbed, other = (Path(work.__name__, name) for name in ("alone", "killed"))
    for folder in (undisturbed, other):
        folder.mkdir(parents=True)
    process = start(work, undisturbed)
    process.join()
    if process.exitcode:
        raise SystemExit(f"the work failed: {Path('said.txt').read_text()}")
    kills = 0
    while True:
        process = start(work, other)
        if kills < KILLS:
            wait_for_writing(process, other, rng.integers(1, 12))
        else:
            process.join()
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
        elif process.exitcode:
            raise SystemExit(f"the work failed after {kills} kills: {Path('said.txt').read_text()}")
        else:
            break
    made, alone = contents(other), contents(undisturbed)
    if made.keys() != alone.keys():
        raise SystemExit(f"other files: {sorted(made.keys() ^ alone.keys())}")
    unlike = [name for name, value in alone.items() if made[name] != value]
    if unlike or len(alone) < 2:
        raise SystemExit(f"a run that was killed {kills} times made other {unlike} of {len(alone)} files")
    print(f"{work.__name__}: {kills} kills, {len(alone)} files alike")


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.chdir(sys.argv[1])
    coupling = CouplingConfig(num_caches=2, prefetch="off")
    about = {"data": "moons", "num_items": 256, "batch_size": 32, "steps": 9, "threads": 1, "device": "cpu"}
    train(TrainConfig(model=POINTS, coupling=coupling, **about), "run")
    rng = np.random.default_rng(0)
    for work in (reflow, distill, report):
        killed(work, rng)
