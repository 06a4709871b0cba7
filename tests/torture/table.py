"""The one table of `make torture`: a line per fault, and what became of every try.

In:  lines, as each group makes them. Out: the table, and how many tries lost something.
Holds: every try is survived, reported or lost, and nothing else: a line that does not add up is refused.
       survived: the same command, or the next, came through with the bytes of an undisturbed run
       reported: it ended with a clear error and the right exit code; finished files were intact
"""

from collections.abc import Sequence
from dataclasses import dataclass

COUNTS = ("tries", "survived", "reported", "lost")
_FAULT_WIDTH, _COUNT_WIDTH = 68, 8


@dataclass(frozen=True, kw_only=True)
class Line:
    """One fault, tried so many times. A test that cannot run here has no tries, and its reason in `note`."""

    fault: str
    tries: int
    survived: int
    reported: int
    lost: int
    note: str = ""

    def __post_init__(self) -> None:
        if self.tries != self.survived + self.reported + self.lost:
            raise ValueError(f"{self.fault}: {self.tries} tries are not the sum of {self}")


def header() -> str:
    """What stands over the lines."""
    names = "  ".join(name.rjust(_COUNT_WIDTH) for name in COUNTS)
    return f"{'fault'.ljust(_FAULT_WIDTH)}  {names}\n" + "  ".join(["─" * _FAULT_WIDTH, *["─" * _COUNT_WIDTH] * 4])


def shown(line: Line) -> str:
    """A line as it stands in the table."""
    counts = "  ".join(f"{getattr(line, name):,}".rjust(_COUNT_WIDTH) for name in COUNTS)
    return f"{line.fault.ljust(_FAULT_WIDTH)}  {counts}{f'  {line.note}' if line.note else ''}"


def total(lines: Sequence[Line]) -> Line:
    """The last line."""
    sums = {name: sum(getattr(line, name) for line in lines) for name in COUNTS}
    return Line(fault="all of them", **sums)
