"""Preparation: everything a run needs is found, opened and compared before a model is built.

In:  the command line. Out: a `Job`: recipe, loader, batch, stage, and the record a run was begun with.
Holds: what cannot be trained as asked is refused by name; nothing is written here.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dataprep.errors import BudgetError, DataError, UsageError
from dataprep.ledger import Record, read_journal
from dataprep.paths import Paths, find_paths
from dataprep.recipe import Recipe, load_recipe, newest_recipe
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab
from train.batch import Batch, choose_batch
from train.checkpoint import Cursor
from train.config import RATE_FACTOR_BY_STAGE, TrainConfig
from train.loader import Loader
from train.shapes import PRESETS, ModelShape


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run, ready to be trained."""

    config: TrainConfig
    paths: Paths
    recipe: Recipe
    loader: Loader
    vocab: Vocab  # for the sample
    batch: Batch
    shape: ModelShape
    peak_rate: float
    run: str
    stage: str
    begun: Record | None  # the start of the run's last attempt; None for a new run

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
    def is_chat(self) -> bool:
        """Whether the model learns what an assistant says, and so is asked as one."""
        return self.recipe.loss == "assistant"

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
    run = config.run or f"{recipe.name}-{config.model}"
    starts = read_journal(paths.runs / run / "journal.jsonl").of_kind("start")
    begun = starts[-1] if starts else None
    stage = _choose_stage(config, run, begun)
    return Job(
        config=config,
        paths=paths,
        recipe=recipe,
        loader=Loader(paths, recipe),
        vocab=_open_vocab(paths, recipe),
        batch=batch,
        shape=preset.shape,
        peak_rate=config.learning_rate or preset.learning_rate * RATE_FACTOR_BY_STAGE[stage],
        run=run,
        stage=stage,
        begun=begun,
    )


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
    if recipe.split != "train":
        raise UsageError(
            f"recipe {recipe.name!r} is of held-out shards: weights that saw them cannot be judged by them",
            seen=f"split {recipe.split}",
            wanted="split train",
            fix="--recipe with another one, or python -m dataprep.pack … without --split",
        )
    asked = {"--loss": (recipe.loss, ("all", "assistant")), "--attention": (recipe.attention, ("full", "document"))}
    for flag, (seen, known) in asked.items():
        if seen not in known:
            raise UsageError(
                f"recipe {recipe.name!r} asks for what this trainer cannot do",
                seen=f"{flag} {seen}",
                wanted=" or ".join(f"{flag} {value}" for value in known),
                fix=f"python -m dataprep.pack … {flag} {known[0]}",
            )


def _open_vocab(paths: Paths, recipe: Recipe) -> Vocab:
    """The vocabulary the recipe's tokens are of: asked for before training, not first by the sample after it."""
    vocab = load_vocab(paths, recipe.tokenizer)
    if vocab.fingerprint != recipe.fingerprint:
        raise DataError(
            f"the vocabulary {recipe.tokenizer!r} is not the one that recipe {recipe.name!r} was packed with",
            seen=f"fingerprint {vocab.fingerprint[:12]}…",
            wanted=f"{recipe.fingerprint[:12]}…",
            fix=f"bring its {paths.shown(paths.vocab / recipe.tokenizer)}.tiktoken and .json back, or pack again",
        )
    return vocab


def _choose_stage(config: TrainConfig, run: str, begun: Record | None) -> str:
    """The stage asked for, or the one the run began with: its rate must not jump because a flag was left out."""
    if begun is None:
        return config.stage or "pretrain"
    if config.stage not in (None, begun["stage"]):
        raise DataError(
            f"run {run!r} was begun as another stage",
            seen=f"--stage {config.stage}",
            wanted=begun["stage"],
            fix="leave --stage out to go on; or begin a run of its own: --run-name NAME --parent RUN",
        )
    return begun["stage"]


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
