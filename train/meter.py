"""The meter: what a run has taken so far, in hours and dollars, and when that is enough.

In:  the journal's records, the devices and their price. Out: seconds, dollars; the limit that the next step would pass.
Holds: it counts the whole run, every attempt and the work lost in crashes with it: that was paid for too. An attempt
       that was killed counts by its steps and saves, which the journal has; this one by the clock.
Meter: 2 GPUs at $3.00, 1,800 s before, 1,800 s now -> 1.0 hours, $6.00
"""

import time
from collections.abc import Sequence

from dataprep.errors import BudgetError, UsageError
from dataprep.ledger import Record
from train.routine import Routine


class Meter:
    """Counts from the moment it is made, on top of what earlier attempts took."""

    def __init__(self, records: Sequence[Record], *, usd_per_hour: float | None) -> None:
        """`usd_per_hour` is of all devices together; None where nobody knows it."""
        self._before = seconds_taken(records)
        self._started = time.monotonic()
        self.usd_per_hour = usd_per_hour

    @property
    def seconds_now(self) -> float:
        """Of this attempt."""
        return time.monotonic() - self._started

    @property
    def hours(self) -> float:
        """Of the whole run."""
        return (self._before + self.seconds_now) / 3600

    @property
    def usd(self) -> float | None:
        """Of the whole run."""
        return None if self.usd_per_hour is None else self.hours * self.usd_per_hour

    def usd_after(self, seconds: float) -> float | None:
        """Of the whole run, that much later."""
        return None if self.usd is None or self.usd_per_hour is None else self.usd + seconds / 3600 * self.usd_per_hour

    def passed(self, routine: Routine, *, ahead_seconds: float = 0.0) -> str | None:
        """The limit that is passed `ahead_seconds` from now, as the flag that set it."""
        hours = self.hours + ahead_seconds / 3600
        if routine.max_hours is not None and hours > routine.max_hours:
            return f"--max-hours {routine.max_hours:g}"
        if routine.max_usd is not None and hours * (self.usd_per_hour or 0.0) > routine.max_usd:
            return f"--max-usd {routine.max_usd:g}"
        return None

    def __str__(self) -> str:
        """What was taken, for people."""
        return f"{self.hours:,.2f} hours" + ("" if self.usd is None else f", ${self.usd:,.2f}")


def seconds_taken(records: Sequence[Record]) -> float:
    """What the attempts in a journal took: by their end record, or by their steps where a kill left none."""
    stated = {record["attempt"]: record["seconds"] for record in records if record["kind"] == "end"}
    counted: dict[int, float] = {}
    for record in records:
        if record["kind"] == "step":
            counted[record["attempt"]] = counted.get(record["attempt"], 0.0) + record["seconds"]
    return sum((counted | stated).values())


def check_limits(routine: Routine, meter: Meter) -> None:
    """Refuse limits that cannot be kept, before a model is built. Raises UsageError or BudgetError."""
    if routine.max_usd is not None and meter.usd_per_hour is None:
        raise UsageError(
            "--max-usd needs a price, and none is known for this device",
            seen=f"--max-usd {routine.max_usd:g}",
            wanted="what one device costs in an hour",
            fix="add --usd-per-hour USD",
        )
    passed = meter.passed(routine)
    if passed:
        raise BudgetError(
            f"this run has already taken what {passed} allows",
            seen=str(meter),
            wanted=f"less than {passed.partition(' ')[2]}",
            fix=f"the same command with a larger {passed.partition(' ')[0]}",
        )
