"""SIGKILL at random moments: the cache is always a permutation, and the end is that of an uninterrupted run.

    python bench/coupling_kills.py [--kills N] [--seed N] [--json FILE]

Half of the kills hit ``loomfast couple`` (exact blocks, swept), half ``loomfast train`` with LOOM. After each
the files are read: what is there must be whole, and its ids a permutation. Then the same command goes on.
Whenever one comes to its end, its files are compared with an uninterrupted run's, bit for bit, and it begins
again.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from timing import report

from loomfast.coupling.cache import is_permutation
from loomfast.files import read_tensors

COUPLE = ["couple", "digits", "--num-caches", "4", "--memory", "900k", "--min-gain", "0"]
TRAIN = [
    "train", "8gaussians", "--steps", "1500", "--checkpoint-every", "50", "--threads", "1",
    "--coupling.num-caches", "2",
]  # fmt: skip


def command(arguments, out):
    return [sys.executable, "-m", "loomfast", *arguments, "--out", str(out)]


def start(arguments, out):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command(arguments, out), env=environment, **silent)


def check_ids(path, name):
    """Whether there is a state, which then must be whole and a permutation."""
    if not path.exists():
        return False
    tensors, _ = read_tensors(path)
    if not is_permutation(tensors[name]):
        raise SystemExit(f"{path}: the ids are not a permutation")
    return True


def same(one, two):
    one, two = read_tensors(one)[0], read_tensors(two)[0]
    return one.keys() == two.keys() and all(np.array_equal(two[name], value) for name, value in one.items())


def killed(what, arguments, folder, files, kills, rng):
    """Kill the command ``kills`` times; a row of what was found.

    files: an entry of FILES.
    """
    out, state, ids, end = files
    straight, other = folder / "straight", folder / "killed"
    begin = time.perf_counter()
    if start(arguments, out(straight)).wait():
        raise SystemExit(f"{what} failed")
    whole = time.perf_counter() - begin
    done = states = ends = 0
    while done < kills or ends == 0:
        process = start(arguments, out(other))
        try:
            if process.wait(whole * rng.uniform(0.1, 0.9) if done < kills else None):
                raise SystemExit(f"{what} failed after {done} kills")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
            states += check_ids(state(other), ids)
            continue
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
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", default="bench-coupling-kills.json")
    arguments = parser.parse_args()
    rng, rows = np.random.default_rng(arguments.seed), []
    for what, line in (("couple", COUPLE), ("train", TRAIN)):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(killed(what, line, Path(folder), FILES[what], arguments.kills // 2, rng))
    report(rows, arguments.json)


def _cache(stem):
    return stem.with_suffix(".safetensors")


def _unfinished(stem):
    return stem.with_suffix(".safetensors.partial") / "state.safetensors"


def _directory(stem):
    return stem


def _run_state(stem):
    return stem / "state.safetensors"


# command -> what --out names, the state of unfinished work, the ids in it, and the file at the end
FILES = {
    "couple": (_cache, _unfinished, "ids", _cache),
    "train": (_directory, _run_state, "coupling.ids", _run_state),
}


if __name__ == "__main__":
    main()
