"""The routine: what a run does beside its steps: it saves, judges itself, stops in time.

In:  the command line, and what the run's last start record says. Out: `Routine`, with nothing left open.
Holds: none of it changes a loss; all of it is remembered: a run resumed by its name alone keeps the checkpoints it was
       to keep, and does not spend more than it was to spend. A flag that is given wins, and is what is remembered next.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Routine:
    """What was last asked for, or its default; None is: never."""

    checkpoint_every: int = 100  # steps
    checkpoint_minutes: float | None = None
    keep: int = 2
    keep_every: int | None = None  # steps
    validate_every: int = 250  # steps
    validate_rows: int = 64  # per source
    prompts: str | None = None  # a file; None: train/prompts.toml; "none": nothing is asked
    sample_every: int = 1000  # steps
    core: str | None = None  # a bundle; "none" as None: CORE is not asked
    core_every: int = 2000  # steps
    core_max_per_task: int = 500  # items
    prompt: str = "The"
    track: str = "none"
    max_usd: float | None = None
    max_hours: float | None = None
    usd_per_hour: float | None = None  # of one device

    @property
    def limits(self) -> str:
        """What ends the run before its plan does, as it is typed."""
        limits = {"--max-usd": self.max_usd, "--max-hours": self.max_hours}
        return " ".join(f"{flag} {value:g}" for flag, value in limits.items() if value is not None)


def choose_routine(config: TrainConfig, remembered: Mapping[str, Any]) -> Routine:
    """Asked for now, else `remembered`, else the default."""
    asked = {field.name: getattr(config, field.name) for field in fields(Routine)}
    return Routine(**{**remembered, **{name: value for name, value in asked.items() if value is not None}})
