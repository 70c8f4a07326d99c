"""Builds the kit that a machine with a GPU needs and cannot fetch: one folder of under 60 MB.

    python bench/gpu/kit.py --out gpu-kit [--python PYTHON3.12] [--architecture 90] [--only PART,...]

wheels/     loomfast for CPython 3.12 with its kernels for one architecture; peers, and packages of the
            tests, that a machine with torch, triton, CuPy, NumPy, SciPy, pytest and hypothesis lacks
goldens/    results that the kernels must repeat bit for bit (bench/gpu/goldens.py)
micro, driver, ...   programs of bench/gpu/*.cu
manifest.json        commit, versions, size and SHA-256 of every file
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 60_000_000
# Wheels for CPython 3.12 on Linux, without their requirements. torch-hungarian 0.1.0rc2 is not among them: it
# installs the package of torch-linear-assignment under its name, with the same Triton kernels to the byte.
WHEELS = (
    *("lapx==0.11.1", "torch-linear-assignment==0.1.0"),
    *("tyro==1.0.17", "typeguard==4.6.0", "docstring_parser==0.18.0"),
)
PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)


def find_python(named):
    """The CPython 3.12 that builds the wheel; SystemExit with how to get one."""
    homes = [Path.home() / ".pyenv" / "versions"]
    homes += [Path(sys.executable).resolve().parents[2]]  # beside this one, as pyenv and uv keep them
    candidates = [named] if named else ["python3.12"]
    if not named:
        candidates += sorted(str(p) for home in homes for p in home.glob("*3.12*/bin/python3.12"))
    for candidate in candidates:
        path = shutil.which(candidate)
        code = "import sys; print(sys.version_info[:2] == (3, 12))"
        if (
            path
            and subprocess.run([path, "-c", code], capture_output=True, text=True).stdout.strip() == "True"
        ):
            return path
    raise SystemExit(
        f"no CPython 3.12 found ({', '.join(candidates)}): the GPU machine's wheel must be built by one; "
        "install it, or name it: make gpu-kit KIT_PYTHON=/path/to/python3.12"
    )


def find_nvcc():
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise SystemExit(
            "no nvcc on PATH: the kit holds kernels compiled for the GPU; install the CUDA toolkit"
        )
    return nvcc


def run(*command, **options):
    """Run a command; SystemExit with the end of what it printed where it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-6000:], sep="\n", file=sys.stderr)
        raise SystemExit(f"this failed: {' '.join(map(str, command))}")
    return done.stdout


def build_wheel(out, python, architecture):
    """loomfast for CPython 3.12, its kernels for one architecture."""
    find_nvcc()
    settings = ("LOOMFAST_CUDA=ON", f"CMAKE_CUDA_ARCHITECTURES={architecture}-real")
    options = [f"--config-settings=cmake.define.{setting}" for setting in settings]
    options.append(f"--config-settings=build-dir={ROOT}/build/gpu-kit")
    run(python, "-m", "pip", "wheel", ROOT, "--no-deps", "--wheel-dir", out / "wheels", *options)


def fetch_wheels(out, python):
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    command = [
        python,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--python-version",
        "3.12",
    ]
    run(*command, "--implementation", "cp", *platforms, "--dest", out / "wheels", *WHEELS)


def build_programs(out, architecture, options=("-O3", "-lineinfo"), kernels=None):
    """micro and driver; ``kernels`` is the assignment's source, or an object of it for this architecture."""
    nvcc = [find_nvcc(), "-std=c++17", *options, f"-arch=sm_{architecture}", f"-I{ROOT / 'csrc'}"]
    run(*nvcc, ROOT / "bench/gpu/micro.cu", "-o", out / "micro")
    sources = ("bench/gpu/driver.cu", kernels or "csrc/assignment/cuda/assignment.cu", "csrc/noise/noise.cu")
    named = f'-DLOOMFAST_CUDA_ARCHITECTURES="{architecture}"'
    run(*nvcc, named, *(ROOT / source for source in sources), "-o", out / "driver")


def build_goldens(out):
    run(sys.executable, ROOT / "bench/gpu/goldens.py", out / "goldens")


def write_manifest(out, python, architecture):
    """manifest.json; SystemExit if the kit is larger than it may be."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != "manifest.json")
    entries = {
        str(path.relative_to(out)): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    }
    size = sum(entry["bytes"] for entry in entries.values())
    if size >= LARGEST:
        raise SystemExit(f"the kit has {size} bytes; it must stay below {LARGEST} to travel")
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True).stdout.strip()
    nvcc = shutil.which("nvcc")
    manifest = {
        "commit": commit + ("+" if changed else ""),  # +: with changes that no commit holds
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "architecture": architecture,
        "python": run(python, "--version").strip() if python else None,
        "nvcc": run(nvcc, "--version").strip().splitlines()[-2] if nvcc else None,
        "bytes": size,
        "files": entries,
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def damaged_files(kit):
    """The files of a kit that are not what its manifest says."""
    kit = Path(kit)
    entries = json.loads((kit / "manifest.json").read_text())["files"]
    return [
        name
        for name, entry in entries.items()
        if not (kit / name).is_file()
        or hashlib.sha256((kit / name).read_bytes()).hexdigest() != entry["sha256"]
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="gpu-kit")
    parser.add_argument("--python", default="", help="a CPython 3.12; by default one that is found")
    parser.add_argument(
        "--architecture", default="90", help="compute capability of the GPU, without the point"
    )
    parser.add_argument("--only", default="wheel,peers,programs,goldens", help="parts to build anew")
    arguments = parser.parse_args()
    out, parts = Path(arguments.out).resolve(), arguments.only.split(",")
    python = find_python(arguments.python) if {"wheel", "peers"} & set(parts) else None
    builders = {
        "wheel": lambda: build_wheel(out, python, arguments.architecture),
        "peers": lambda: fetch_wheels(out, python),
        "programs": lambda: build_programs(out, arguments.architecture),
        "goldens": lambda: build_goldens(out),
    }
    unknown = set(parts) - set(builders)
    if unknown:
        parser.error(f"--only takes {', '.join(builders)}, got {', '.join(sorted(unknown))}")
    if set(parts) == set(builders):
        shutil.rmtree(out, ignore_errors=True)
    (out / "wheels").mkdir(parents=True, exist_ok=True)
    for part in parts:
        print(f"{part} ...", flush=True)
        builders[part]()
    manifest = write_manifest(out, python, arguments.architecture)
    size, count = manifest["bytes"] / 1e6, len(manifest["files"])
    print(f"{out}: {size:.1f} MB in {count} files, commit {manifest['commit']}")


if __name__ == "__main__":
    main()
