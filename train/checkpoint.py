"""Checkpoints: a folder of weights, optimizer and state; here one is read, judged and loaded.

In:  runs/<run>/checkpoints/step_00000050/. Out: a `Checkpoint`; a model and an optimizer that stand where it stood.
Holds: state.json names size and sha256 of both files and hashes itself; nothing is loaded that does not agree, nor,
       where all hashes agree, what is not of its own form: a pickle that calls something is named, never run.
    model.safetensors   weights, fp32      optimizer.pt   moments, loaded as plain tensors only
    state.json          {"step": 50, "rows_done": 400, "tokens_done": 25600, "recipe_sha256": …, "files": …}
"""

import json
import operator
import pickle
import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from dataprep.errors import DataError
from dataprep.hashing import sha256_file
from dataprep.state_file import STATE, state_hash
from dataprep.temps import sweep
from train.fitting import refuse_other_moments, refuse_other_weights, unfit
from train.optim import Optimizer
from train.step_folders import list_checkpoints, step_of

WEIGHTS, MOMENTS = "model.safetensors", "optimizer.pt"


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """Where training stands: `rows_done` is the truth, the others are counted beside it."""

    step: int = 0
    rows_done: int = 0
    tokens_done: int = 0
    loss_tokens_done: int = 0

    def after(self, *, row_to: int, tokens: int, loss_tokens: int) -> "Cursor":
        """The cursor one step later."""
        return replace(
            self,
            step=self.step + 1,
            rows_done=row_to,
            tokens_done=self.tokens_done + tokens,
            loss_tokens_done=self.loss_tokens_done + loss_tokens,
        )


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint whose files were found to be what its state says."""

    folder: Path
    cursor: Cursor
    identity: dict[str, Any]  # what must not change while a run goes on
    rng: bytes
    weights_bytes: int
    weights_sha256: str


def read_checkpoint(folder: Path) -> Checkpoint:
    """Check sizes and hashes; reads every byte once, 0.5 GB/s. Raises DataError when anything disagrees."""
    state: dict[str, Any] = {}
    try:
        state = json.loads((folder / STATE).read_text())
        stated = {STATE: state.pop("sha256"), **{name: state["files"][name] for name in (WEIGHTS, MOMENTS)}}
        found = {STATE: state_hash(state), **{name: file_fact(folder / name) for name in (WEIGHTS, MOMENTS)}}
        wrong = [name for name in stated if stated[name] != found[name]] or _ill_formed(folder)
        checkpoint = from_state(folder, state)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        checkpoint, wrong = None, [f"{type(error).__name__}: {error}"]
    if wrong or checkpoint is None:
        raise DataError(
            f"checkpoint {folder.name} is damaged",
            seen=", ".join(wrong),
            wanted="every file as state.json names it",
            fix="the same command uses the checkpoint before it",
        )
    return checkpoint


def load_checkpoint(checkpoint: Checkpoint, model: nn.Module, optimizer: Optimizer) -> None:
    """Put weights, moments and the random state back."""
    load_weights(checkpoint, model)
    load_moments(checkpoint, optimizer)
    try:
        torch.set_rng_state(torch.frombuffer(bytearray(checkpoint.rng), dtype=torch.uint8))
    except (RuntimeError, ValueError) as error:
        raise unfit(checkpoint.folder, f"{STATE}: {_first_line(error)}", "torch's random state") from None


def load_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Put the weights alone into `model`: a parent's, under a fresh optimizer. Raises DataError if they do not fit."""
    weights = load_file(checkpoint.folder / WEIGHTS)
    refuse_other_weights(checkpoint.folder, WEIGHTS, weights, model.state_dict())
    model.load_state_dict(weights)


def load_moments(checkpoint: Checkpoint, optimizer: Optimizer) -> None:
    """Put what the optimizer remembers back; it must be of the same kind. Raises DataError where it does not fit."""
    settings = [set(group) for group in optimizer.param_groups]
    moments = _read_moments(checkpoint.folder / MOMENTS, mmap=False)
    try:
        optimizer.load_state_dict(moments)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:  # what torch says depends on where
        seen = f"{MOMENTS}: {type(error).__name__}: {_first_line(error)}"
        raise unfit(checkpoint.folder, seen, "what this optimizer remembers") from None
    refuse_other_moments(checkpoint.folder, MOMENTS, optimizer, settings)


def newest_good(checkpoints: Path) -> tuple[Checkpoint | None, list[DataError]]:
    """The newest checkpoint that is whole, and the complaints about newer ones."""
    complaints: list[DataError] = []
    for folder in reversed(list_checkpoints(checkpoints)):
        try:
            return read_checkpoint(folder), complaints
        except DataError as damage:
            complaints.append(damage)
    return None, complaints


def clear_the_way(checkpoints: Path, step: int) -> None:
    """Sweep what a killed writer left and set damaged folders past `step` aside: training writes their names again."""
    sweep(checkpoints)
    for folder in list_checkpoints(checkpoints):
        if step_of(folder) > step:
            aside = folder.with_name(f"damaged_{folder.name}")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)


def from_state(folder: Path, state: dict[str, Any]) -> Checkpoint:
    """The checkpoint that a state.json is of."""
    return Checkpoint(
        folder=folder,
        cursor=Cursor(**{field.name: operator.index(state[field.name]) for field in fields(Cursor)}),
        identity=dict(state["identity"]),
        rng=bytes.fromhex(state["rng"]),
        weights_bytes=state["files"][WEIGHTS]["bytes"],
        weights_sha256=state["files"][WEIGHTS]["sha256"],
    )


def _ill_formed(folder: Path) -> list[str]:
    """Files that are not what their names say, whoever hashed them. Reads headers only: tensors stay on the disk."""
    wrong = []
    try:
        with safe_open(folder / WEIGHTS, framework="pt"):
            pass
    except SafetensorError as error:
        wrong.append(f"{WEIGHTS} is no safetensors file ({_first_line(error)})")
    try:
        _read_moments(folder / MOMENTS, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        wrong.append(f"{MOMENTS} holds more or less than tensors and plain values ({type(error).__name__})")
    return wrong


def _read_moments(file: Path, *, mmap: bool) -> dict[str, Any]:
    """Tensors and plain values; `weights_only`, said here, outranks torch's variable that would allow more.

    Mapped they cost nothing, but would change with the file: what goes into an optimizer is read.
    """
    return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def file_fact(file: Path) -> dict[str, Any]:
    """What state.json says of a file."""
    return {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
