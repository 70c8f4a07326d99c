"""``loomfast solve FILE``."""

import time
from contextlib import ExitStack

import numpy as np

from loomfast import console
from loomfast.assignment import solve, solve_points
from loomfast.assignment.points import METRICS
from loomfast.cli.arguments import output_file, positive
from loomfast.data.arrays import read_arrays
from loomfast.files import atomic


def describe(command):
    """Give the command's parser its description and its flags."""
    command.description = (
        "Solve the assignment of a cost matrix, or of points to points, exactly, with a proof.\n\n"
        "FILE is a .npy array, or an .npz archive with one array, of shape (n, m) or (b, n, m). Prints the\n"
        "total, the certified gap (a proven bound on the distance to the optimum) and the time; with\n"
        "--cost-limit also the number of pairs matched. With --points no matrix is stored, and with --out a\n"
        "long solve that was interrupted goes on when the same command is run again."
    )
    command.epilog = (
        "example: loomfast solve cost.npy --out assignment.npz\n"
        "         loomfast solve --points x.npy z.npy --out assignment.npz"
    )
    command.set_defaults(run=run)
    command.add_argument("file", metavar="FILE", nargs="?", help=".npy or .npz file with the cost matrix")
    command.add_argument(
        "--points",
        nargs=2,
        metavar=("X", "Z"),
        help="instead of FILE: files with points (n, d) and (m, d), d up to 16",
    )
    command.add_argument("--metric", choices=METRICS, help="cost of a pair of points (default: sqeuclidean)")
    command.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        help="stop within this share of the costs' spread (default: 0)",
    )
    command.add_argument("--maximize", action="store_true", help="find the largest total instead")
    command.add_argument(
        "--cost-limit",
        type=float,
        metavar="L",
        help="leave pairs dearer than L unmatched; every unmatched row and column adds L/2 to the total",
    )
    command.add_argument(
        "--threads", type=positive, help="CPU threads, used for a batch of matrices and for points"
    )
    command.add_argument(
        "--stats", action="store_true", help="also print the way of each solve, its counts and milliseconds"
    )
    command.add_argument(
        "--out", type=output_file, help=".npz file for col4row, row4col, u, v, total and gap"
    )


def run(arguments):
    """Solve what the files hold, and print total, gap and time."""
    if (arguments.file is None) == (arguments.points is None):
        raise ValueError("name a FILE with a cost matrix, or --points X Z")
    found, what, seconds = (_solve_matrix if arguments.points is None else _solve_points)(arguments)
    matched = np.count_nonzero(np.atleast_2d(found.col4row) >= 0, axis=-1)
    for total, gap, count in zip(np.atleast_1d(found.total), np.atleast_1d(found.gap), matched, strict=True):
        pairs = "" if arguments.cost_limit is None else f"  {count} pairs"
        print(f"total {float(total)!r}  certified gap {float(gap):.3g}{pairs}")
    print(f"{what} solved in {seconds * 1e3:.3f} ms")
    if arguments.stats:
        for stats in found.stats if isinstance(found.stats, tuple) else (found.stats,):
            print(described(stats))
    if arguments.out:
        with atomic(arguments.out) as aside, open(aside, "wb") as file:
            np.savez(
                file,
                col4row=found.col4row,
                row4col=found.row4col,
                u=found.u,
                v=found.v,
                total=found.total,
                gap=found.gap,
            )
        print(arguments.out)
    return 0


def _solve_matrix(arguments):
    """The `Assignment` of the matrix in a file, what was solved, and the seconds it took."""
    if arguments.metric is not None:
        raise ValueError("--metric goes with --points: the costs of a matrix are what they are")
    cost = load_matrix(arguments.file)
    start = time.perf_counter()
    found = solve(
        cost,
        maximize=arguments.maximize,
        cost_limit=arguments.cost_limit,
        tolerance=arguments.tolerance,
        threads=arguments.threads,
    )
    seconds = time.perf_counter() - start
    return found, f"{' x '.join(str(s) for s in cost.shape)} {cost.dtype}", seconds


def _solve_points(arguments):
    """The same of points in two files; unfinished work is kept beside the file that is to be written."""
    if arguments.maximize or arguments.cost_limit is not None:
        raise ValueError("--maximize and --cost-limit are for a cost matrix, not for --points")
    x, z = (load_matrix(path, "the points") for path in arguments.points)
    partial = arguments.out and arguments.out.with_name(arguments.out.name + ".partial")
    start = time.perf_counter()
    with ExitStack() as stack:
        found = solve_points(
            x,
            z,
            metric=arguments.metric or "sqeuclidean",
            tolerance=arguments.tolerance,
            threads=arguments.threads,
            progress=_bars(stack),
            checkpoint=partial,
        )
    return found, f"{len(x)} to {len(z)} points in {x.shape[1]}-D", time.perf_counter() - start


def _bars(stack):
    """Return a progress callback for `solve_points`: a bar for the whole and for each sample before it."""
    update, total_of_bar = None, None

    def progress(done, total, note):
        nonlocal update, total_of_bar
        if total != total_of_bar:
            stack.close()
            update, total_of_bar = stack.enter_context(console.progress(total, "solve", first=done)), total
        update(done, note)

    return progress


def described(stats):
    """The stats of one solve as a line: the way, the counts, and milliseconds by phase if there are any."""
    counts = ", ".join(f"{name} {value}" for name, value in stats.items() if isinstance(value, int))
    seconds = stats.get("seconds", {})
    phases = ", ".join(f"{name} {1e3 * value:.3f}" for name, value in seconds.items())
    return f"{stats['path']}: {counts}" + (f"; ms: {phases}" if phases else "")


def load_matrix(path, what="the cost matrix"):
    """Return the array of a .npy file, or the only one of a .npz archive; nothing is unpickled."""
    loaded = read_arrays(path, "must be a .npy array or an .npz archive of numbers")
    if isinstance(loaded, np.ndarray):
        return loaded
    names = list(loaded)
    if len(names) != 1:
        raise ValueError(f"{path} must hold one array, {what}; it holds {', '.join(names) or 'nothing'}")
    return loaded[names[0]]
