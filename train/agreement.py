"""Agreement: whether every rank is about to train the same thing, each from its own disk and command line.

In:  what each rank opened, in rank order. Out: nothing, or a DataError that names the rank and what differs.
Holds: data may lie on every machine's own disk, so a rank may hold another recipe, or no journal of this run: that is
       told before a model is built. Otherwise it is a mixture nobody asked for, or ranks that wait for each other.
refuse_difference([{"recipe_sha256": "a1"}, {"recipe_sha256": "b2"}]) -> rank 1 is about to train another recipe_sha256
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dataprep.errors import DataError
from train.prepare import Job

_SHOWN_CHARACTERS = 64  # a sha256, whole


def what_is_trained(job: Job) -> dict[str, Any]:
    """Everything by which ranks must not differ. Bins are in the recipe's hash, and so is the plan."""
    settings = job.settings
    return {
        "run": job.run,
        "last attempt (by its journal)": settings.begun and settings.begun["attempt"],
        **job.identity,
        "plan (rows_sha256)": job.recipe.rows_sha256,
        "stage": settings.stage_name,
        "schedule": settings.schedule,
        "learning_rate": settings.peak_rate,
        "batch": asdict(job.batch),
        "tokens": job.config.tokens,
        "parent": job.config.parent,
        "routine": asdict(job.routine),
        "held-out rows": [held.rows_sha256 for held in job.held_out.sources],
        "prompts": job.prompts,
        "bundle": job.bundle and job.bundle.sha256,
        "print_row_hash": job.config.print_row_hash,
    }


def refuse_difference(told: Sequence[dict[str, Any]]) -> None:
    """Raise DataError for the first rank that differs from rank 0. Every rank raises the same."""
    for rank, theirs in enumerate(told):
        for key, wanted in told[0].items():
            if theirs[key] != wanted:
                raise DataError(
                    f"rank {rank} is about to train another {key} than rank 0",
                    seen=_short(theirs[key], wanted),
                    wanted=_short(wanted, theirs[key]),
                    fix="the same data/, manifests/ and runs/ for every rank: compare python -m dataprep.verify on"
                    " each machine",
                )


def _short(value: Any, other: Any) -> str:
    """A value in few words; of settings, those that differ."""
    if isinstance(value, dict) and isinstance(other, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items() if other.get(key) != part)
    return str(value)[:_SHOWN_CHARACTERS]
