"""``loomfast solve FILE``."""

import argparse
import time

import numpy as np

from loomfast.cli.arguments import output_file, positive


def add(commands):
    """The parser of the command."""
    solve = commands.add_parser(
        "solve",
        help="solve the assignment of a cost matrix",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Solve the linear assignment problem of a cost matrix exactly, with a proof.\n\n"
        "FILE is a .npy array, or an .npz archive with one array, of shape (n, m) or (b, n, m). Prints the\n"
        "total, the certified gap (a proven bound on the distance to the optimum) and the time.",
        epilog="example: loomfast solve cost.npy --out assignment.npz",
    )
    solve.set_defaults(run=run)
    solve.add_argument("file", metavar="FILE", help=".npy or .npz file with the cost matrix")
    solve.add_argument("--maximize", action="store_true", help="find the largest total instead")
    solve.add_argument("--threads", type=positive, help="CPU threads, used for a batch of matrices")
    solve.add_argument("--out", type=output_file, help=".npz file for col4row, row4col, u, v, total and gap")


def run(arguments):
    """``loomfast solve FILE``."""
    from loomfast import solve
    from loomfast.files import atomic

    cost = load_matrix(arguments.file)
    start = time.perf_counter()
    found = solve(cost, maximize=arguments.maximize, threads=arguments.threads)
    seconds = time.perf_counter() - start
    shape = " x ".join(str(s) for s in cost.shape)
    for total, gap in zip(np.atleast_1d(found.total), np.atleast_1d(found.gap), strict=True):
        print(f"total {float(total)!r}  certified gap {float(gap):.3g}")
    print(f"{shape} {cost.dtype} solved in {seconds * 1e3:.3f} ms")
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


def load_matrix(path):
    """The array of a .npy file, or the only one of an .npz archive; nothing is unpickled."""
    from loomfast.data.arrays import read_arrays

    loaded = read_arrays(path, "must be a .npy array or an .npz archive of numbers")
    if isinstance(loaded, np.ndarray):
        return loaded
    names = list(loaded)
    if len(names) != 1:
        raise ValueError(
            f"{path} must hold one array, the cost matrix; it holds {', '.join(names) or 'nothing'}"
        )
    return loaded[names[0]]
