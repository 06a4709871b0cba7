"""Weights: a run's checkpoint, found by RUN[@STEP] and judged byte by byte; or opened, as a model that answers.

In:  a run, a step or none for its newest whole checkpoint. Out: a `Checkpoint`; an `Opened`: model, vocabulary, past.
Holds: a model is opened with the vocabulary its weights were trained on, or not at all; while its files are read
       nobody removes them; its longest context is the row length it was trained on.
open_model(paths, "demo", None, device=cpu).label == "demo@586"
"""

import sys
from dataclasses import dataclass

import torch

from dataprep.bins import find_receipts, read_receipt
from dataprep.errors import DataError, UsageError
from dataprep.ledger import Record, read_journal
from dataprep.paths import JOURNAL, Paths
from dataprep.quantity import at_step
from dataprep.recipe import load_recipe
from dataprep.shapes import ModelShape
from dataprep.state_file import STATE
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab
from train.checkpoint import Checkpoint, load_weights, newest_good, read_checkpoint
from train.fitting import unfit
from train.keeping import reading
from train.model import GPT
from train.runs.trash import refuse_trashed
from train.step_folders import list_checkpoints, step_folder, step_of


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A run's weights at one step: in evaluation mode, on their device, without gradients."""

    run: str
    checkpoint: Checkpoint
    start: Record  # the start of the attempt that trained them
    model: GPT
    vocab: Vocab

    @property
    def label(self) -> str:
        """RUN@STEP, as it is typed."""
        return at_step(self.run, self.checkpoint.cursor.step)

    @property
    def recipe(self) -> str:
        """The recipe it was trained on last."""
        return self.start["recipe"]

    @property
    def seq_len(self) -> int:
        """The longest context it was trained on, in tokens."""
        return self.start["seq_len"]


def open_model(paths: Paths, run: str, step: int | None, *, device: torch.device) -> Opened:
    """Open RUN[@STEP]. Raises UsageError where there is no such thing, DataError where it is damaged."""
    refuse_trashed(paths, run, wanted="a run in runs/", instead="another run")
    starts = read_journal(paths.journal(run)).of_kind("start")
    if not starts:
        raise no_such_run(paths, run, fix="train one, or ask for one of those: python -m train.runs ls")
    if "preset" not in starts[-1]:
        raise UsageError(
            f"run {run!r} was replayed from a file, not trained: it has no weights",
            seen="a start record without a model",
            wanted="a run that was trained here",
            fix="python -m train.runs ls",
        )
    with reading(paths.checkpoints(run)):
        checkpoint = find_weights(paths, run, step, fix="python -m train.runs ls")
        start = [start for start in starts if start["step"] <= checkpoint.cursor.step][-1]
        shape = _shape_of(checkpoint)
        vocab = _vocab_of(paths, checkpoint)
        model = GPT(shape, vocab_size=vocab.vocab_size, seq_len=start["seq_len"])
        load_weights(checkpoint, model)
    model.requires_grad_(requires_grad=False)
    return Opened(run=run, checkpoint=checkpoint, start=start, model=model.to(device).eval(), vocab=vocab)


def has_talked(paths: Paths, opened: Opened) -> bool:
    """Whether the run's last recipe taught it conversations: by its loss, or for a source of it has roles.

    Where a model was taken along without its bins, no receipt says who spoke, but the recipe still may.
    """
    recipe = load_recipe(paths, opened.recipe)
    if recipe.loss == "assistant":
        return True
    receipts = [
        read_receipt(file)
        for source in recipe.source_names
        for file in find_receipts(paths, recipe.tokenizer, source)[:1]
    ]
    return any(receipt.loss is not None for receipt in receipts)


def find_weights(paths: Paths, run: str, step: int | None, *, fix: str) -> Checkpoint:
    """The checkpoint of `step`, or the newest that is whole, every byte of it read. Warns of what it skips."""
    if step is not None:
        return _of_step(paths, run, step, fix)
    checkpoint, complaints = newest_good(paths.checkpoints(run))
    for complaint in complaints:
        print(f"warning: {complaint.what} and skipped: {complaint.seen} (run {run})", file=sys.stderr, flush=True)
    if checkpoint is None:
        raise DataError(
            f"run {run!r} has no whole checkpoint to begin from",
            seen=f"{len(complaints)} damaged" if complaints else "none",
            wanted="one",
            fix=f"train it to its first checkpoint, or: {fix}",
        )
    return checkpoint


def no_such_run(paths: Paths, run: str, *, fix: str) -> UsageError:
    """What is said of a run that has no journal."""
    known = sorted(file.parent.name for file in paths.runs.glob(f"*/{JOURNAL}") if file.stat().st_size)
    return UsageError(
        f"there is no run {run!r} to begin from",
        seen=", ".join(known) or "no runs",
        wanted=f"{run}, with a journal and a checkpoint",
        fix=fix,
    )


def _of_step(paths: Paths, run: str, step: int, fix: str) -> Checkpoint:
    checkpoints = paths.checkpoints(run)
    folder = step_folder(checkpoints, step)
    held = [step_of(other) for other in list_checkpoints(checkpoints)]
    others = ", ".join(f"{run}@{other}" for other in held if other != step)
    fix = f"one of: {others}" if others else fix
    if step not in held:
        raise UsageError(
            f"run {run!r} keeps no checkpoint of step {step}",
            seen=f"checkpoints of steps {', '.join(map(str, held))}" if held else "no checkpoints",
            wanted=folder.name,
            fix=fix,
        )
    try:
        return read_checkpoint(folder)
    except DataError as damage:
        raise DataError(f"{damage.what} (run {run!r})", seen=damage.seen, wanted=damage.wanted, fix=fix) from None


def _shape_of(checkpoint: Checkpoint) -> ModelShape:
    identity = checkpoint.identity
    try:
        _, _ = identity["tokenizer"], identity["fingerprint"]
        return ModelShape(**identity["model"])
    except (KeyError, TypeError) as error:
        seen = f"{STATE}: an identity of {', '.join(identity)} ({type(error).__name__}: {error})"
        raise unfit(checkpoint.folder, seen, "a tokenizer and the shape of a model") from None


def _vocab_of(paths: Paths, checkpoint: Checkpoint) -> Vocab:
    name, fingerprint = checkpoint.identity["tokenizer"], checkpoint.identity["fingerprint"]
    vocab = load_vocab(paths, name)
    if vocab.fingerprint != fingerprint:
        raise DataError(
            f"the vocabulary {name!r} is not the one these weights were trained on",
            seen=f"fingerprint {vocab.fingerprint[:12]}…",
            wanted=f"{fingerprint[:12]}…",
            fix=f"bring its {paths.shown(paths.vocab / name)}.tiktoken and .json back",
        )
    return vocab
