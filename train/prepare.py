"""Preparation: everything a run needs is found, opened and compared before a model is built.

In:  the command line. Out: a `Job`: settings, recipe, loader, batch, vocabulary.
Holds: what cannot be trained as asked is refused by name; nothing is written here.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dataprep.batch import Batch, choose_batch
from dataprep.bundle import Bundle, open_bundle
from dataprep.errors import BudgetError, DataError, UsageError
from dataprep.paths import Paths, find_paths
from dataprep.recipe import Recipe, load_recipe
from dataprep.soundness import check_sound
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab
from train.checkpoint import Cursor
from train.config import TrainConfig
from train.core import check_core
from train.heldout import HeldOutRows, open_held_out
from train.loader import Loader
from train.prompt_file import NONE, Prompts, read_prompts
from train.routine import Routine
from train.settings import Settings, choose_settings


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run, ready to be trained."""

    config: TrainConfig
    paths: Paths
    recipe: Recipe
    loader: Loader
    held_out: HeldOutRows
    vocab: Vocab  # for what it is asked
    prompts: Prompts
    bundle: Bundle | None  # of CORE
    batch: Batch
    settings: Settings

    @property
    def routine(self) -> Routine:
        """What the run does beside its steps."""
        return self.settings.routine

    @property
    def run(self) -> str:
        """The run's name."""
        return self.settings.run

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return self.paths.runs / self.run

    @property
    def journal(self) -> Path:
        """What the run did."""
        return self.paths.journal(self.run)

    @property
    def checkpoints(self) -> Path:
        """What the run can go on from."""
        return self.paths.checkpoints(self.run)

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
            "model": asdict(self.settings.shape),
            "optimizer": self.settings.optimizer,
            "seed": self.settings.seed,
        }

    def check_sound(self) -> None:
        """Look at the bins that are trained on and judged by, as closely as --verify says. Raises DataError."""
        shards = (*self.recipe.shards, *self.held_out.gatherer.shards)
        check_sound(self.paths, self.recipe.tokenizer, shards, look=self.config.verify)

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
    settings = choose_settings(config, paths)
    recipe = load_recipe(paths, settings.recipe)
    _check_supported(recipe)
    batch = choose_batch(
        settings.preset,
        seq_len=recipe.seq_len,
        world_size=world_size,
        batch_tokens=settings.batch_tokens,
        micro_batch=config.micro_batch or _micro_batch_before(settings, world_size),
    )
    _check_budget(config, recipe, batch)
    vocab = _open_vocab(paths, recipe)
    return Job(
        config=config,
        settings=settings,
        paths=paths,
        recipe=recipe,
        loader=Loader(paths, recipe),
        held_out=open_held_out(paths, recipe, vocab, settings.routine.validate_rows),
        vocab=vocab,
        prompts=read_prompts(settings.routine.prompts),
        bundle=_open_bundle(settings.routine, vocab, recipe.seq_len),
        batch=batch,
    )


def _open_bundle(routine: Routine, vocab: Vocab, seq_len: int) -> Bundle | None:
    """CORE's tasks, each item asked of no one: what cannot be asked is told before training, not in its middle."""
    if routine.core in (None, NONE):
        return None
    bundle = open_bundle(Path(routine.core))
    check_core(vocab, bundle, seq_len=seq_len, max_per_task=routine.core_max_per_task)
    return bundle


def _micro_batch_before(settings: Settings, world_size: int) -> int | None:
    """The one this run was trained with on as many ranks, at as much to a step: it is known to fit."""
    before = settings.begun
    if before is None or before["world_size"] != world_size:
        return None
    same_step = settings.batch_tokens == before["batch_rows"] * before["seq_len"]
    return before["micro_batch"] if same_step else None


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
