"""Everything there is to learn from a GPU, in one command and eight minutes.

    make gpu-kit          # beforehand, on any machine: what the GPU's machine cannot fetch
    python bench/gpu_check.py --kit gpu-kit --out FOLDER [--quick] [--only STEP,...]

The steps run in the order of STEPS, each in a process of its own under a timeout of its own; one that fails
or hangs does not hide those after it. What a step finds is in FOLDER (JSON, at most 8 files) within
seconds, so that an interrupted run keeps what it had. The table of findings is printed last and is in
FOLDER/table.txt. --quick ends in three minutes: the machine, the constants, the golden results and four
timings. Where the golden results are not repeated nothing is timed. No setting of the card is touched.

Needs Python 3.12 with torch, triton, NumPy, SciPy and pytest; loomfast itself comes from the kit.
"""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Step:
    """A function ``run(context, save) -> whether all is right``, its timeout, the file of its findings."""

    run: str
    seconds: int
    file: str
    quick: bool = False
    times: bool = False  # skipped where results are wrong


STEPS = {
    "versions": Step("gpu.machine:versions", 30, "machine", quick=True),
    "install": Step("gpu.machine:install", 40, "machine", quick=True),
    "micro": Step("gpu.machine:micro", 30, "machine", quick=True),
    "golden": Step("gpu.correct:golden", 100, "correct", quick=True),
    "tests": Step("gpu.correct:gpu_tests", 75, "correct"),
    "sanitizers": Step("gpu.correct:sanitizers", 75, "correct"),
    "assignment": Step("gpu.speed:assignment", 130, "assignment", quick=True, times=True),
    "noise_and_cost": Step("gpu.speed:noise_and_cost", 70, "noise_and_cost", times=True),
    "coupling": Step("gpu.speed:coupling", 60, "coupling", times=True),
    "profile": Step("gpu.speed:profile", 60, "profile", times=True),
    "training": Step("gpu.speed:training", 110, "training", times=True),
}
DEADLINE, QUICK_DEADLINE = 480, 170


@dataclass
class Context:
    """What a step is given. ``device`` is made when it is first asked for."""

    kit: Path
    site: Path
    quick: bool
    dry: bool
    right_so_far: bool
    saved: dict = field(default_factory=dict)
    _device: object = None

    @property
    def device(self):
        if self._device is None:
            module, name = ("gpu.dry", "DryGpu") if self.dry else ("gpu.device", "Gpu")
            self._device = getattr(importlib.import_module(module), name)()
        return self._device


def run_step(arguments):
    """In the step's own process: run it, writing every finding at once; exit 0 if all was right, 1 if not."""
    context = Context(
        Path(arguments.kit).resolve(),
        Path(arguments.site),
        arguments.quick,
        arguments.dry_run,
        not arguments.wrong,
    )
    target = Path(arguments.findings)

    def save(name, value):
        context.saved[name] = value
        write_json(target, context.saved)

    module, function = STEPS[arguments.step].run.split(":")
    try:
        right = getattr(importlib.import_module(module), function)(context, save)
    except Exception:
        save("error", traceback.format_exc()[-2000:])
        return 1
    return 0 if right else 1


def write_json(path, value):
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1, default=float) + "\n")
    part.replace(path)


def read_json(path):
    return json.loads(path.read_text()) if path.exists() else {}


class Check:
    """A run of the check: the steps one after the other, their findings on disk."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.out, self.kit = Path(arguments.out), Path(arguments.kit)
        self.begin = time.monotonic()
        self.files, self.outcomes, self.process = {}, {}, None

    def left(self):
        return self.arguments.deadline - (time.monotonic() - self.begin)

    def run(self, names):
        with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
            scratch = Path(scratch)
            site = self.kit.resolve() / "site"
            for name in names:
                wrong = self.outcomes.get("golden", {}).get("outcome") not in (None, "right")
                if STEPS[name].times and wrong:
                    self.record(name, {"outcome": "skipped: the golden results were not repeated"}, {})
                elif self.left() < 5:
                    self.record(name, {"outcome": "no time left"}, {})
                else:
                    self.one(name, scratch, site, wrong)

    def one(self, name, scratch, site, wrong):
        """Run one step; whatever becomes of it, what it had found is kept."""
        findings, log = scratch / f"{name}.json", scratch / f"{name}.log"
        command = [sys.executable, str(HERE / "gpu_check.py"), "--step", name, "--findings", str(findings)]
        command += ["--site", str(site), "--kit", str(self.kit), "--out", str(self.out)]
        command += (
            ["--quick"] * self.arguments.quick + ["--dry-run"] * self.arguments.dry_run + ["--wrong"] * wrong
        )
        environment = dict(os.environ, PYTHONUNBUFFERED="1")
        if not self.arguments.dry_run:
            # The wheel of the kit, whatever folder this is started in.
            environment |= {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
        seconds = min(self.arguments.timeouts.get(name, STEPS[name].seconds), self.left())
        print(f"{name} (at most {seconds:.0f} s) ...", flush=True)
        begin, outcome = time.monotonic(), "interrupted"
        with log.open("w") as output:
            options = {
                "stdout": output,
                "stderr": subprocess.STDOUT,
                "env": environment,
                "start_new_session": True,
            }
            self.process = subprocess.Popen(command, **options)
            try:
                outcome = self.watch(name, findings, begin + seconds)
            finally:
                self.stop()
                result = {"outcome": outcome, "seconds": round(time.monotonic() - begin, 1)}
                if outcome != "right":
                    result["log"] = log.read_text(errors="replace")[-1500:]
                self.record(name, result, read_json(findings))
        print(f"    {outcome}, {result['seconds']} s", flush=True)

    def watch(self, name, findings, until):
        """Wait for the step's process, its findings written down meanwhile; says what became of it."""
        while True:
            try:
                code = self.process.wait(timeout=max(0.1, min(2.0, until - time.monotonic())))
            except subprocess.TimeoutExpired:
                self.record(name, {"outcome": "running"}, read_json(findings))
                if time.monotonic() >= until:
                    return "stopped: it took too long"
            else:
                return {0: "right", 1: "wrong"}.get(code, f"died with status {code}")

    def stop(self):
        """End the step's process with all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def record(self, name, result, findings):
        self.outcomes[name] = result
        file = self.files.setdefault(STEPS[name].file, {})
        file[name] = result | {"findings": findings}
        write_json(self.out / f"{STEPS[name].file}.json", file)


def interrupt(*_):
    raise KeyboardInterrupt


def main(words=None):
    arguments = parse(words)
    sys.path.insert(0, str(HERE))  # PYTHONSAFEPATH keeps it out
    if arguments.step:
        return run_step(arguments)
    from gpu.table import table

    names = [name for name in STEPS if STEPS[name].quick or not arguments.quick]
    if arguments.only:
        names = [name for name in names if name in arguments.only]
    check = Check(arguments)
    check.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    interrupted = False
    try:
        check.run(names)
    except KeyboardInterrupt:
        interrupted = True
    text = table(check.files)
    (check.out / "table.txt").write_text(text)
    print(text, end="", flush=True)
    if interrupted:
        return 130
    return 0 if all(result["outcome"] == "right" for result in check.outcomes.values()) else 1


def parse(words):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kit", required=True, help="the folder that `make gpu-kit` made")
    parser.add_argument("--out", required=True, help="a folder for the findings")
    parser.add_argument(
        "--only", default="", help=f"steps, by commas, of {', '.join(STEPS)}; install comes with any"
    )
    parser.add_argument("--quick", action="store_true", help="the steps that matter most, in three minutes")
    parser.add_argument(
        "--deadline", type=float, default=0, help="seconds for everything; 480, or 170 with --quick"
    )
    parser.add_argument("--timeout", default="", help="other timeouts: STEP=SECONDS,...")
    for name in ("--dry-run", "--wrong"):
        parser.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    for name in ("--step", "--findings", "--site"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    arguments.deadline = arguments.deadline or (QUICK_DEADLINE if arguments.quick else DEADLINE)
    pairs = [part.partition("=") for part in arguments.timeout.split(",") if part]
    arguments.timeouts = {name: float(value) for name, _, value in pairs}
    chosen = [name for name in arguments.only.split(",") if name]
    unknown = (set(chosen) | set(arguments.timeouts)) - set(STEPS)
    if unknown:
        parser.error(f"no step {', '.join(sorted(unknown))}; the steps are {', '.join(STEPS)}")
    arguments.only = [*chosen, "install"] if chosen else []
    if not (Path(arguments.kit) / "manifest.json").is_file():
        parser.error(f"--kit {arguments.kit} holds no manifest.json: make it with `make gpu-kit`")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
