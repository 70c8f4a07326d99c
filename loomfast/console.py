"""What the commands print: tables, and progress as a bar on a terminal or as plain lines in a pipe."""

import sys
import threading
import time
from contextlib import contextmanager
from importlib import util

PLAIN_LINES = 10  # lines a piece of work prints into a pipe


def table(headers, rows):
    """Rows of text under their headers, numbers to the right, as one string.

    By hand, since ``loomfast doctor`` prints tables where only NumPy is installed.
    """
    cells = [[str(c) for c in row] for row in [headers, *rows]]
    widths = [max(len(row[k]) for row in cells) for k in range(len(headers))]
    right = [all(_numeric(row[k]) for row in cells[1:]) for k in range(len(headers))]
    lines = []
    for row in cells:
        padded = [
            c.rjust(w) if to_right else c.ljust(w) for c, w, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def _numeric(text):
    return text[:1].isdigit() or text[:1] in "-.–"


@contextmanager
def progress(total, title, *, first=0, items=0):
    """A progress report on stderr; yields ``update(done, note="")``.

    On a terminal a bar with the time left, in a pipe a plain line at every tenth of the work. first: what was
    done before. items: how many items a unit of the work is, to report items a second; 0 not to.
    """
    if sys.stderr.isatty() and util.find_spec("rich") is not None:
        with _bar(total, title, first, items) as update:
            yield update
    else:
        yield _plain_lines(total, title, first, items)


@contextmanager
def _bar(total, title, first, items):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),  # a name in brackets is no markup
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), auto_refresh=_can_start_a_thread()) as bars:
        task = bars.add_task(title, total=total, completed=first, note="")

        def update(done, note=""):
            rate = _rate(items * (done - first), time.monotonic() - start)
            bars.update(task, completed=done, note=f"{rate}{note}", refresh=not bars.live.auto_refresh)

        yield update


def _can_start_a_thread():
    """Return whether this process may start a thread, such as one that redraws a bar."""
    thread = threading.Thread(target=int)
    try:
        thread.start()
    except RuntimeError:
        return False
    thread.join()
    return True


def _rate(items, seconds):
    return f"{items / seconds:,.0f} items/s  " if items > 0 and seconds > 0 else ""


def _plain_lines(total, title, first, items):
    start, printed = time.monotonic(), first * PLAIN_LINES // max(1, total)

    def update(done, note=""):
        nonlocal printed
        tenth = done * PLAIN_LINES // max(1, total)
        if tenth > printed:
            printed = tenth
            elapsed = time.monotonic() - start
            left = elapsed * (total - done) / max(1, done - first)
            rate = _rate(items * (done - first), elapsed)
            times = f"{elapsed:.0f} s, {left:.0f} s left"
            print(f"{title}: {done}/{total}  {rate}{note}  {times}", file=sys.stderr, flush=True)

    return update
