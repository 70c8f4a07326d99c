"""SIGKILL at random moments: what is left is whole, and the end is that of an uninterrupted run.

    python bench/coupling_kills.py [--methods couple,loom,...] [--kills N] [--seed N] [--json FILE]

``couple`` is ``loomfast couple`` (exact blocks, swept); every other word is a ``--coupling.method``, with
which the trainer runs; all of them by default. After each kill the files are read: what is there must be
whole, and the noise ids of a cache in it a permutation. Then the same work goes on. When it comes to its end,
its files are compared with an uninterrupted run's, bit for bit.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # which Adam imports at its first step: a child is to be killed at work, not at that
from timing import report

from loomfast.cli import main as loomfast
from loomfast.config import CouplingConfig, TrainConfig
from loomfast.coupling.build import COUPLINGS
from loomfast.coupling.cache import is_permutation
from loomfast.files import read_tensors
from loomfast.models import MLPConfig
from loomfast.training.loop import train

COUPLE = ["couple", "digits", "--num-caches", "4", "--memory", "900k", "--min-gain", "0"]
MORE = {
    "mixed": {"mixed_second": "minibatch-ot", "replace": True},
    "paired": {"pairs": "ends.npy"},
    "semidiscrete": {"by_class": True},
    "sinkhorn": {"replace": True},
    "stable": {"source": "ends.npy"},
}
POINTS = 64
FORK = multiprocessing.get_context("fork")  # a child that has imported torch already is killed at work


def write_data(folder):
    """Points in the plane with labels, and as many ends for the couplings that read a file of them."""
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(POINTS + 10, 2)).astype(np.float32), np.arange(POINTS + 10) % 3
    parts = {"train": points[:POINTS], "heldout": points[POINTS:]}
    parts |= {"train_labels": labels[:POINTS], "heldout_labels": labels[POINTS:]}
    np.savez(folder / "points.npz", **parts)
    np.save(folder / "ends.npy", rng.normal(size=(POINTS, 2)).astype(np.float32))


def config_of(method):
    """A short run with a coupling, on points in the plane with labels, stopped within an OT batch or not."""
    coupling = CouplingConfig(
        method=method, num_caches=2, groups=8, refresh_epochs=1, ot_batch=2, **MORE.get(method, {})
    )
    return TrainConfig(
        model=MLPConfig(dim=2, width=16),
        coupling=coupling,
        data="points.npz",
        steps=300,
        batch_size=16,
        checkpoint_every=9,
        threads=1,
        device="cpu",
    )


def start(what, out):
    process = FORK.Process(target=run, args=(what, out))
    process.start()
    return process


def run(what, out):
    """What is killed: the command, or the trainer without the pictures of its end."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1), os.dup2(silent, 2)
    if what == "couple":
        sys.exit(loomfast([*COUPLE, "--out", str(out)]))
    train(config_of(what), out)


def checked_state(path):
    """Whether there is a state, which then must be whole and its ids permutations."""
    if not path.exists():
        return False
    for name, value in read_tensors(path)[0].items():
        if name.endswith("ids") and not is_permutation(value):
            raise SystemExit(f"{path}: {name} are not a permutation")
    return True


def same(one, two):
    one, two = read_tensors(one)[0], read_tensors(two)[0]
    return one.keys() == two.keys() and all(np.array_equal(two[name], value) for name, value in one.items())


def killed(what, folder, kills, rng):
    """Kill the work ``kills`` times, go on to its end, and compare; a row of what was found."""
    out, state, end = FILES["couple" if what == "couple" else "train"]
    straight, other = folder / f"{what}-straight", folder / f"{what}-killed"
    begin = time.perf_counter()
    process = start(what, out(straight))
    process.join()
    if process.exitcode:
        raise SystemExit(f"{what} failed")
    whole = time.perf_counter() - begin
    done = states = ends = 0
    while done < kills or ends == 0:
        process = start(what, out(other))
        process.join(whole * rng.uniform(0.05, 0.9) if done < kills else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            done += 1
            states += checked_state(state(other))
            continue
        if process.exitcode:
            raise SystemExit(f"{what} failed after {done} kills")
        if not same(end(straight), end(other)):
            raise SystemExit(f"{what}: a run that was killed ended otherwise")
        ends += 1
        shutil.rmtree(other, ignore_errors=True)
        end(other).unlink(missing_ok=True)
    row = {"what": what, "kills": done, "unfinished_states_read": states, "same_ends": ends}
    return row | {"uninterrupted_seconds": whole}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", default=",".join(("couple", *COUPLINGS)))
    parser.add_argument("--kills", type=int, default=5, help="of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", default="bench-coupling-kills.json")
    arguments = parser.parse_args()
    target = Path(arguments.json).resolve()
    torch.set_num_threads(1)
    rng, rows = np.random.default_rng(arguments.seed), []
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        os.chdir(folder)
        for what in arguments.methods.split(","):
            rows.append(killed(what, Path(folder), arguments.kills, rng))
            print(rows[-1], flush=True)
    report(rows, target)


def _cache(stem):
    return stem.with_suffix(".safetensors")


def _unfinished(stem):
    return stem.with_suffix(".safetensors.partial") / "state.safetensors"


def _directory(stem):
    return stem


def _run_state(stem):
    return stem / "state.safetensors"


# command -> what --out names, the state of unfinished work, and the file at the end
FILES = {"couple": (_cache, _unfinished, _cache), "train": (_directory, _run_state, _run_state)}


if __name__ == "__main__":
    main()
