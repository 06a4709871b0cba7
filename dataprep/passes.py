"""Passes: rows that are counted on beyond their plan's end, as those of a replayed run may be.

In:  a stretch of rows and the rows of one pass. Out: the stretch, pass by pass.
Holds: row r of pass p is counted as p × plan_rows + r; nothing is lost at the seams.
"""


def split_passes(row_from: int, row_to: int, plan_rows: int | None) -> list[tuple[int, int, int]]:
    """(pass, row_from, row_to) of rows that are counted on beyond their plan's end, as a replayed run's are.

    >>> split_passes(8, 23, 10)
    [(0, 8, 10), (1, 10, 20), (2, 20, 23)]
    """
    if not plan_rows:
        return [(0, row_from, row_to)]
    numbers = range(row_from // plan_rows, -(-row_to // plan_rows))
    return [(n, max(row_from, n * plan_rows), min(row_to, (n + 1) * plan_rows)) for n in numbers]
