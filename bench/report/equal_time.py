"""Runs compared at equal time: the clock's ratios say which step each had reached when another was done."""

import numpy as np

CLOCK = "digits-clock"
REFERENCE = "independent"


def price_of(results, title):
    """Return (step, preparation) of a run's title, in steps of independent noise.

    None without the clock's result, and for runs that it does not time: other batches, two halves.
    """
    clock = results.get(CLOCK, {}).get("clock", {})
    if title not in clock or REFERENCE not in clock:
        return None
    unit = clock[REFERENCE]["step_cpu_seconds"]
    return tuple(clock[title][name] / unit for name in ("step_cpu_seconds", "preparation_cpu_seconds"))


def times_of(results, title, steps):
    """Return a run's time after each of ``steps`` steps, in steps of independent noise; None as above."""
    price = price_of(results, title)
    return None if price is None else [price[1] + price[0] * step for step in steps]


def at_time(result, times, time, nfe):
    """Return the distance at a time from the stages of a run, between two of them on straight lines of logs.

    result: of a job with stages; times: of these. None where the time lies outside of them.
    """
    distances = [stage["frechet"].get(str(nfe)) for stage in result["stages"]]
    if None in distances or not distances or not times[0] <= time <= times[-1]:
        return None
    return float(np.exp(np.interp(np.log(time), np.log(times), np.log(distances))))
