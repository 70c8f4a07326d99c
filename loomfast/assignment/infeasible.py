"""The error of a problem without an answer, which carries the proof that there is none."""

import numpy as np


class InfeasibleError(ValueError):
    """No complete matching exists, and why: Hall's condition fails for a set of rows, or of columns.

    P. Hall, "On representatives of subsets", Journal of the London Mathematical Society 10, 1935: all rows
    can be matched if and only if every set of them has at least as many neighbours as members.

    Attributes:
        rows: (r,) int64, sorted. With n <= m: rows that have no partners but `columns`, which are fewer.
        columns: (c,) int64, sorted. With n > m it is these that are more than `rows`, their only partners.
    """

    def __init__(self, message, rows, columns):
        super().__init__(message)
        self.rows = rows
        self.columns = columns


def infeasible(crowded, neighbours, by_row, what):
    """The error for lines that have too few neighbours; ``what`` begins the message."""
    crowded, neighbours = (np.sort(np.asarray(part, np.int64)) for part in (crowded, neighbours))
    lines, others = ("row", "column") if by_row else ("column", "row")
    message = (
        f"{what}: {_count(crowded, lines)} {_some(crowded)} can take only "
        f"{_count(neighbours, others)} {_some(neighbours)}"
    )
    rows, columns = (crowded, neighbours) if by_row else (neighbours, crowded)
    return InfeasibleError(message, rows, columns)


def _count(lines, name):
    return f"{len(lines)} {name}{'' if len(lines) == 1 else 's'}"


def _some(lines, most=8):
    shown = ", ".join(map(str, lines[:most].tolist()))
    return f"[{shown}{', ...' if len(lines) > most else ''}]"
