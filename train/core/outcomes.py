"""Outcomes: which items one checkpoint answered rightly, kept beside the run for comparing without asking again.

In:  an opened model and its `TaskScore`s. Out: runs/<run>/evaluations/core_step_00000050_<bundle>_<n>.json, read back.
Holds: what is read back is of the same weights, bundle, number of items and rules, or it is not read back at all.
{"bundle_sha256": …, "max_per_task": 500, "tasks": [{"label": "copa", "items": [17, 3, …], "right": "0110…"}], …}
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataprep.bundle import Bundle
from dataprep.paths import Paths
from dataprep.sealed import publish_json, read_json
from train.core.scores import TaskScore
from train.weights import Opened

_RULES = 1  # raised when the same weights and items may get another answer
_FOLDER = "evaluations"


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """One checkpoint's answers to one bundle."""

    label: str
    bundle: str
    bundle_sha256: str
    max_per_task: int | None
    scores: tuple[TaskScore, ...]


def keep_outcomes(
    paths: Paths, opened: Opened, scores: Sequence[TaskScore], bundle: Bundle, *, max_per_task: int | None
) -> Path:
    """Publish what was answered; the file's path."""
    file = _file(paths, opened, bundle.sha256, max_per_task)
    file.parent.mkdir(parents=True, exist_ok=True)
    cursor = opened.checkpoint.cursor
    value = {
        "rules": _RULES,
        "run": opened.run,
        "step": cursor.step,
        "rows_done": cursor.rows_done,
        "tokens_done": cursor.tokens_done,
        "recipe": opened.recipe,
        "weights_sha256": opened.checkpoint.weights_sha256,
        "bundle": bundle.name,
        "bundle_sha256": bundle.sha256,
        "max_per_task": max_per_task,
        "seq_len": opened.seq_len,
        "tasks": [_written(score) for score in scores],
    }
    publish_json(file, value)
    return file


def read_outcomes(paths: Paths, opened: Opened, bundle: Bundle, *, max_per_task: int | None) -> Outcomes | None:
    """What these weights answered before; None where they were not asked."""
    return _read(_file(paths, opened, bundle.sha256, max_per_task), opened)


def kept_outcomes(paths: Paths, opened: Opened) -> Iterator[Outcomes]:
    """Everything that these weights were asked."""
    step = opened.checkpoint.cursor.step
    for file in sorted((paths.runs / opened.run / _FOLDER).glob(f"core_step_{step:08d}_*.json")):
        outcomes = _read(file, opened)
        if outcomes:
            yield outcomes


def _file(paths: Paths, opened: Opened, bundle_sha256: str, max_per_task: int | None) -> Path:
    name = f"core_step_{opened.checkpoint.cursor.step:08d}_{bundle_sha256[:12]}_{max_per_task or 'all'}.json"
    return paths.runs / opened.run / _FOLDER / name


def _read(file: Path, opened: Opened) -> Outcomes | None:
    value = read_json(file) or {}
    ours = {"rules": _RULES, "weights_sha256": opened.checkpoint.weights_sha256, "seq_len": opened.seq_len}
    if {key: value.get(key) for key in ours} != ours:
        return None
    return Outcomes(
        label=opened.label,
        bundle=value["bundle"],
        bundle_sha256=value["bundle_sha256"],
        max_per_task=value["max_per_task"],
        scores=tuple(_score(task) for task in value["tasks"]),
    )


def _written(score: TaskScore) -> dict[str, Any]:
    right = "".join("01"[is_right] for is_right in score.right)
    return vars(score) | {"right": right}


def _score(task: dict[str, Any]) -> TaskScore:
    right = tuple(letter == "1" for letter in task["right"])
    made: dict[str, Any] = {**task, "items": tuple(task["items"]), "notes": tuple(task["notes"]), "right": right}
    return TaskScore(**made)
