"""What every benchmark shares: interleaved medians, the machine, peak memory, a JSON report."""

import ctypes
import json
import math
import os
import pickle
import platform
import resource
import signal
import statistics
import time
from pathlib import Path

from loomfast._arrays import cores


def timed(function, clock=time.perf_counter):
    """The seconds of one call, and what it returned."""
    begin = clock()
    answer = function()
    return clock() - begin, answer


def interleaved(contestants, rounds, *, clock=time.perf_counter, warm=1, calls=lambda name: 1):
    """Median seconds by name: ``calls(name)`` calls a round, after ``warm`` unmeasured rounds."""
    times = {name: [] for name in contestants}
    for k in range(warm + rounds):
        for name, function in contestants.items():
            for _ in range(calls(name)):
                seconds, _ = timed(function, clock)
                if k >= warm:
                    times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def bounded(function, seconds):
    """(what a function returns, None) or (None, why not): a child process calls it that ``seconds`` end.

    These are seconds of its CPU; ten times as many on the clock end it, too. What it returns is pickled.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # whatever the caller has it do
            signal.alarm(math.ceil(10 * seconds))
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds),) * 2)
            with open(writing, "wb") as out:
                pickle.dump(function(), out)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        found = answer.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        late = os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL, signal.SIGALRM)
        return None, f"over {seconds:.3g} s" if late else f"ended by signal {os.WTERMSIG(status)}"
    return (pickle.loads(found), None) if found else (None, "an error")


def extra_memory(function):
    """Bytes by which the process's resident memory peaks above its start while the function runs (Linux)."""
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not hide what is taken now
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    function()
    return max(0, _resident("VmHWM") - before)


def _resident(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"no {field} in /proc/self/status")


def machine():
    import numpy
    import torch

    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": names[0].split(": ")[1] if names else platform.processor(),
        "cores": cores(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": torch.__version__,
    }


def report(rows, path):
    """Prints the rows, one to a line, and writes them with the machine as JSON."""
    for row in rows:
        print("  ".join(f"{key} {_short(value)}" for key, value in row.items()))
    Path(path).write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    print(f"written to {path}")


def _short(value):
    return f"{value:.4g}" if isinstance(value, float) else value
