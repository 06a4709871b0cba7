"""Preparation: everything a run needs is found, opened and compared before a model is built.

In:  the command line. Out: a `Job`: recipe, loader, batch, and the run's checkpoint to go on from.
Holds: a recipe, tokenizer, model or seed other than the run's own is refused by name; nothing is written here.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dataprep.errors import BudgetError, DataError, UsageError
from dataprep.paths import Paths, find_paths
from dataprep.recipe import Recipe, load_recipe, newest_recipe
from train.batch import Batch, choose_batch
from train.checkpoint import Checkpoint, Cursor, newest_good
from train.config import TrainConfig
from train.journal import Record
from train.loader import Loader
from train.shapes import PRESETS, ModelShape


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run, ready to be trained."""

    config: TrainConfig
    paths: Paths
    recipe: Recipe
    loader: Loader
    batch: Batch
    shape: ModelShape
    peak_rate: float
    run: str

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return self.paths.runs / self.run

    @property
    def journal(self) -> Path:
        """What the run did."""
        return self.folder / "journal.jsonl"

    @property
    def checkpoints(self) -> Path:
        """What the run can go on from."""
        return self.folder / "checkpoints"

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change while a run goes on."""
        return {
            "recipe": self.recipe.name,
            "recipe_sha256": self.recipe.sha256,
            "tokenizer": self.recipe.tokenizer,
            "fingerprint": self.recipe.fingerprint,
            "model": asdict(self.shape),
            "seed": self.config.seed,
        }

    def last_row(self, cursor: Cursor) -> int:
        """Where to stop: the plan's end, or the last whole step from `cursor` within --tokens."""
        if self.config.tokens is None or self.config.tokens == self.recipe.tokens:
            return self.recipe.plan_rows
        rows_left = self.config.tokens // self.recipe.seq_len - cursor.rows_done
        n_steps = max(0, rows_left) // self.batch.rows
        return min(cursor.rows_done + n_steps * self.batch.rows, self.recipe.plan_rows)


def open_job(config: TrainConfig, *, world_size: int) -> Job:
    """Open recipe, plan and bins. Raises UsageError, DataError or BudgetError."""
    paths = _find_manifest(config.manifest)
    recipe = load_recipe(paths, config.recipe or newest_recipe(paths))
    _check_supported(recipe)
    preset = PRESETS[config.model]
    batch = choose_batch(
        preset,
        seq_len=recipe.seq_len,
        world_size=world_size,
        batch_tokens=config.batch_tokens,
        micro_batch=config.micro_batch,
    )
    _check_budget(config, recipe, batch)
    return Job(
        config=config,
        paths=paths,
        recipe=recipe,
        loader=Loader(paths, recipe),
        batch=batch,
        shape=preset.shape,
        peak_rate=config.learning_rate or preset.learning_rate,
        run=config.run or f"{recipe.name}-{config.model}",
    )


def find_checkpoint(job: Job, records: list[Record]) -> Checkpoint | None:
    """The checkpoint to go on from; None for a new run. Prints what it skips."""
    starts = [record for record in records if record["kind"] == "start"]
    if starts and job.config.resume == "never":
        raise UsageError(
            f"run {job.run!r} exists and --resume never was asked",
            seen=f"{len(starts)} attempt(s) in {job.paths.shown(job.journal)}",
            wanted="a new run",
            fix="another name: --run-name NAME; or go on with it: --resume auto",
        )
    if starts:
        _refuse_other(job, starts[-1], "its journal")
    checkpoint, complaints = newest_good(job.checkpoints)
    for complaint in complaints:
        print(f"warning: {complaint.what} and skipped: {complaint.seen}", flush=True)
    if checkpoint and not starts:
        raise DataError(
            f"run {job.run!r} has checkpoints but no journal: what its weights have seen is not known",
            seen=f"{checkpoint.folder.name}, and no start in {job.paths.shown(job.journal)}",
            wanted="the journal it was trained with",
            fix="bring journal.jsonl back, or train under another name: --run-name NAME",
        )
    if checkpoint:
        _refuse_other(job, checkpoint.identity, checkpoint.folder.name)
    elif complaints:
        raise DataError(
            f"no checkpoint of run {job.run!r} is whole",
            seen=f"{len(complaints)} damaged",
            wanted="one to go on from",
            fix="start anew under another name: --run-name NAME",
        )
    elif starts:
        print("no checkpoint was reached before: starting again from row 0", flush=True)
    return checkpoint


def _find_manifest(manifest: Path | None) -> Paths:
    paths = find_paths() if manifest is None else Paths(root=manifest.resolve().parents[1])
    wanted = paths.database if manifest is None else manifest.resolve()
    if not wanted.is_file():
        raise DataError(
            "there is no manifest",
            seen=f"no file {paths.shown(wanted)}",
            wanted="tokens.db, made from what is held",
            fix="python -m dataprep.index",
        )
    if wanted.parent != paths.manifests:
        raise UsageError(
            "the recipes are not beside this manifest",
            seen=wanted,
            wanted="a file in a folder called manifests, with recipes/ and plans/",
            fix="--manifest manifests/tokens.db, or set DATAPREP_ROOT",
        )
    return paths


def _check_supported(recipe: Recipe) -> None:
    asked = {"--loss": (recipe.loss, "all"), "--attention": (recipe.attention, "full")}
    for flag, (seen, known) in asked.items():
        if seen != known:
            raise UsageError(
                f"recipe {recipe.name!r} asks for what this trainer cannot do yet",
                seen=f"{flag} {seen}",
                wanted=f"{flag} {known}",
                fix=f"python -m dataprep.pack … {flag} {known}",
            )


def _check_budget(config: TrainConfig, recipe: Recipe, batch: Batch) -> None:
    if config.tokens is not None and config.tokens > recipe.tokens:
        raise BudgetError(
            f"the plan of {recipe.name!r} is shorter than --tokens",
            seen=f"{recipe.tokens:,} tokens in the plan",
            wanted=f"{config.tokens:,}",
            fix=f"python -m dataprep.pack --tokens {config.tokens} …, or --tokens {recipe.tokens}",
        )
    step_tokens = batch.rows * batch.seq_len
    if config.tokens is not None and config.tokens < min(step_tokens, recipe.tokens):
        raise UsageError(
            "--tokens is less than one step",
            seen=f"{config.tokens:,} tokens",
            wanted=f"at least {step_tokens:,}, the tokens of a step",
            fix=f"--tokens {step_tokens}, or a smaller --batch-tokens",
        )


def _refuse_other(job: Job, held: dict[str, Any], where: str) -> None:
    """Compare what the run was trained with so far with what is asked now."""
    for key, ours in job.identity.items():
        if held.get(key) != ours:
            raise DataError(
                f"run {job.run!r} was trained with another {key} ({where})",
                seen=f"{key} {_short(ours)}",
                wanted=_short(held.get(key)),
                fix="train it as a run of its own: --run-name NAME; or bring back what it was trained with",
            )


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text  # noqa: PLR2004 -- a sha256
