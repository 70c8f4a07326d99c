"""``loomfast solve FILE``."""

import time

import numpy as np

from loomfast.assignment import solve
from loomfast.cli.arguments import output_file, positive
from loomfast.data.arrays import read_arrays
from loomfast.files import atomic


def describe(command):
    """Give the command's parser its description and its flags."""
    command.description = (
        "Solve the linear assignment problem of a cost matrix exactly, with a proof.\n\n"
        "FILE is a .npy array, or an .npz archive with one array, of shape (n, m) or (b, n, m). Prints the\n"
        "total, the certified gap (a proven bound on the distance to the optimum) and the time; with\n"
        "--cost-limit also the number of pairs matched."
    )
    command.epilog = "example: loomfast solve cost.npy --out assignment.npz"
    command.set_defaults(run=run)
    command.add_argument("file", metavar="FILE", help=".npy or .npz file with the cost matrix")
    command.add_argument("--maximize", action="store_true", help="find the largest total instead")
    command.add_argument(
        "--cost-limit",
        type=float,
        metavar="L",
        help="leave pairs dearer than L unmatched; every unmatched row and column adds L/2 to the total",
    )
    command.add_argument("--threads", type=positive, help="CPU threads, used for a batch of matrices")
    command.add_argument(
        "--stats", action="store_true", help="also print the way of each solve, its counts and milliseconds"
    )
    command.add_argument(
        "--out", type=output_file, help=".npz file for col4row, row4col, u, v, total and gap"
    )


def run(arguments):
    """Solve the matrix or the batch of matrices in a file, and print total, gap and time."""
    cost = load_matrix(arguments.file)
    start = time.perf_counter()
    found = solve(
        cost, maximize=arguments.maximize, cost_limit=arguments.cost_limit, threads=arguments.threads
    )
    seconds = time.perf_counter() - start
    shape = " x ".join(str(s) for s in cost.shape)
    matched = np.count_nonzero(np.atleast_2d(found.col4row) >= 0, axis=-1)
    for total, gap, count in zip(np.atleast_1d(found.total), np.atleast_1d(found.gap), matched, strict=True):
        pairs = "" if arguments.cost_limit is None else f"  {count} pairs"
        print(f"total {float(total)!r}  certified gap {float(gap):.3g}{pairs}")
    print(f"{shape} {cost.dtype} solved in {seconds * 1e3:.3f} ms")
    if arguments.stats:
        for stats in found.stats if cost.ndim == 3 else (found.stats,):
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


def described(stats):
    """The stats of one solve as a line: the way, the counts, and milliseconds by phase if there are any."""
    counts = ", ".join(f"{name} {value}" for name, value in stats.items() if isinstance(value, int))
    seconds = stats.get("seconds", {})
    phases = ", ".join(f"{name} {1e3 * value:.3f}" for name, value in seconds.items())
    return f"{stats['path']}: {counts}" + (f"; ms: {phases}" if phases else "")


def load_matrix(path):
    """Return the array of a .npy file, or the only one of a .npz archive; nothing is unpickled."""
    loaded = read_arrays(path, "must be a .npy array or an .npz archive of numbers")
    if isinstance(loaded, np.ndarray):
        return loaded
    names = list(loaded)
    if len(names) != 1:
        raise ValueError(
            f"{path} must hold one array, the cost matrix; it holds {', '.join(names) or 'nothing'}"
        )
    return loaded[names[0]]
