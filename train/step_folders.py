"""Step folders: where a run's checkpoints lie, by name alone; who only counts or lists them loads no torch.

In:  runs/<run>/checkpoints. Out: published checkpoints, oldest first; the step each is of.
Holds: what a writer has not renamed yet, and what was set aside as damaged, is no checkpoint.
checkpoints/step_00000050 -> 50
"""

import re
from pathlib import Path

_NAME = re.compile(r"step_\d{8,}")


def step_folder(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint of a step is published."""
    return checkpoints / f"step_{step:08d}"


def list_checkpoints(checkpoints: Path) -> list[Path]:
    """Published checkpoints, oldest first."""
    found = [folder for folder in checkpoints.glob("step_*") if _NAME.fullmatch(folder.name)]
    return sorted(found, key=step_of)


def step_of(folder: Path) -> int:
    """step_00000050 -> 50."""
    return int(folder.name.removeprefix("step_"))
