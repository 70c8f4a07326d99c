"""Builds what is published, and tries it: ``make dist``.

A source distribution; a wheel from it, without network; the same wheel again from another folder, which must
have the same bytes; and the wheel in an empty environment with NumPy alone (dist_smoke.py).
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 3_000_000  # bytes of a wheel without CUDA
SDIST = "from scikit_build_core.build import build_sdist; import sys; print(build_sdist(sys.argv[1]))"


def run(*command, **options):
    """Run a command; SystemExit with what it printed where it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{done.stderr}\nthis failed: {' '.join(map(str, command))}")
    return done.stdout


def commit_time():
    """Seconds of the commit that is packed: dates inside the archives. 1980 where there is no git."""
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "315532800"


def build_sdist(out, environment):
    name = run(sys.executable, "-c", SDIST, out, cwd=ROOT, env=environment).split()[-1]
    return out / name


def build_wheel(sdist, out, environment, cuda):
    """The wheel of an unpacked sdist, by the packages that are here."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation"]
    options = [f"--config-settings=cmake.define.LOOMFAST_CUDA={cuda}", "--wheel-dir", out]
    run(*command, *options, sdist, env=environment)
    return max(out.glob("*.whl"), key=os.path.getmtime)


def differing(one, two):
    """The names of what is not the same in two wheels."""
    with zipfile.ZipFile(one) as a, zipfile.ZipFile(two) as b:
        names = sorted({*a.namelist(), *b.namelist()})
        return [n for n in names if n not in a.namelist() or n not in b.namelist() or a.read(n) != b.read(n)]


def try_wheel(wheel, folder):
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "numpy", wheel, cwd=folder)
    shutil.copy(ROOT / "tests" / "dist_smoke.py", folder)
    print(run(python, "dist_smoke.py", cwd=folder), end="")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the archives")
    parser.add_argument("--cuda", default="OFF", choices=("OFF", "ON"), help="with the CUDA kernels")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    environment = os.environ | {"SOURCE_DATE_EPOCH": commit_time()}
    sdist = build_sdist(out, environment)
    wheel = build_wheel(sdist, out, environment, arguments.cuda)
    with tempfile.TemporaryDirectory() as folder:
        again = build_wheel(sdist, Path(folder), environment, arguments.cuda)
        differ = differing(wheel, again)
        assert wheel.read_bytes() == again.read_bytes(), (
            f"two builds differ: {', '.join(differ) or 'the archive'}"
        )
    for path in (sdist, wheel):
        print(path.name, path.stat().st_size, "bytes, SHA-256", hashlib.sha256(path.read_bytes()).hexdigest())
    size = wheel.stat().st_size
    assert arguments.cuda == "ON" or size < LARGEST, f"the wheel has {size} bytes, at most {LARGEST}"
    with tempfile.TemporaryDirectory() as folder:
        try_wheel(wheel, Path(folder))


if __name__ == "__main__":
    main()
