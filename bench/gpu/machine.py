"""The steps before any kernel runs: the machine, the kit's wheels installed, the constants of the model."""

import json
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gpu.kit import damaged_files

QUERY = (
    "name",
    "driver_version",
    "memory.total",
    "power.limit",
    "clocks.max.sm",
    "clocks.max.mem",
    "mig.mode.current",
)
PACKAGES = ("torch", "triton", "cupy-cuda13x", "cupy-cuda12x", "numpy", "scipy", "pytest")


def _output(*command):
    """What a program printed; None where it is not there or failed."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions(context, save):
    """The card, its driver, and the versions of everything that matters. Reads settings, changes none."""
    card = _output("nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader")
    save("card", dict(zip(QUERY, card.splitlines()[0].split(", "), strict=False)) if card else None)
    nvcc = _output("nvcc", "--version")
    processor = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    save("processor", processor[0].split(": ")[1] if processor else platform.processor())
    save("cores", len(os.sched_getaffinity(0)))
    save("python", platform.python_version())
    save("nvcc", nvcc.splitlines()[-1] if nvcc else None)
    save("tools", {name: shutil.which(name) for name in ("ncu", "compute-sanitizer", "cuobjdump")})
    save("packages", {name: _version(name) for name in PACKAGES})
    import torch

    save("torch_cuda", torch.version.cuda)
    save("date", datetime.now(UTC).strftime("%Y-%m-%d"))
    manifest = json.loads((context.kit / "manifest.json").read_text())
    save("kit", {name: manifest[name] for name in ("commit", "date", "architecture", "nvcc")})
    damaged = damaged_files(context.kit)
    save("damaged", damaged)
    return bool(card or context.dry) and not damaged


def install(context, save):
    """The kit's wheels into a folder of their own, which the later steps import from."""
    if context.dry:
        return True  # the dry run has the package already
    wheels = sorted((context.kit / "wheels").glob("*.whl"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    command += ["--no-cache-dir", "--upgrade", "--target", str(context.site), *map(str, wheels)]
    subprocess.run(command, check=True)
    code = "import loomfast, loomfast._engine as e; print(loomfast.__file__, e.cuda_architectures)"
    environment = os.environ | {"PYTHONPATH": str(context.site)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd="/"
    )
    save("imported", (done.stdout or done.stderr)[-500:].strip())
    return done.returncode == 0 and str(context.site) in done.stdout


def micro(context, save):
    """Barriers, latencies and bandwidth, by the kit's program micro."""
    done = subprocess.run([context.kit / "micro"], capture_output=True, text=True)
    if done.returncode:
        save("output", (done.stdout + done.stderr)[-1000:])
        return False
    for name, value in json.loads(done.stdout).items():
        save(name, value)
    return True
