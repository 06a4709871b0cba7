"""Checkpoints: a folder of weights, optimizer and state, published whole or not at all.

In:  a model, an optimizer, where training stands. Out: runs/<run>/checkpoints/step_00000050/, and back.
Holds: state.json names size and sha256 of both files and hashes itself; nothing is loaded that does not agree.
    model.safetensors   weights, fp32      optimizer.pt   moments, loaded as plain tensors only
    state.json          {"step": 50, "rows_done": 400, "tokens_done": 25600, "recipe_sha256": …, "files": …}
"""

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from dataprep.errors import DataError, EnvironmentProblem
from dataprep.publish import publishing_folder, sha256_file, sweep
from train.optim import Optimizer

KEPT = 2
WEIGHTS, MOMENTS, STATE = "model.safetensors", "optimizer.pt", "state.json"
_NAME = re.compile(r"step_\d{8,}")


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


def publish_checkpoint(
    checkpoints: Path, cursor: Cursor, identity: dict[str, Any], model: nn.Module, optimizer: Optimizer
) -> Checkpoint:
    """Publish step_<step>, then remove all but the newest two."""
    folder = step_folder(checkpoints, cursor.step)
    with _refusing_a_full_disk(folder), publishing_folder(folder) as part:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, part / WEIGHTS)
        torch.save(optimizer.state_dict(), part / MOMENTS)
        files = {name: _fact(part / name) for name in (WEIGHTS, MOMENTS)}
        state = {**vars(cursor), "identity": identity, "rng": torch.get_rng_state().numpy().tobytes().hex()}
        state |= {"files": files}
        (part / STATE).write_text(json.dumps(state | {"sha256": _state_hash(state)}, indent=2) + "\n")
    for old in list_checkpoints(checkpoints)[:-KEPT]:
        _remove(old)
    return _from_state(folder, state)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Check sizes and hashes; reads every byte once, 0.5 GB/s. Raises DataError when anything disagrees."""
    state: dict[str, Any] = {}
    try:
        state = json.loads((folder / STATE).read_text())
        stated = {STATE: state.pop("sha256"), **state["files"]}
        found = {STATE: _state_hash(state), **{name: _fact(folder / name) for name in state["files"]}}
        wrong = [name for name in stated if stated[name] != found[name]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        wrong = [f"{type(error).__name__}: {error}"]
    if wrong:
        raise DataError(
            f"checkpoint {folder.name} is damaged",
            seen=", ".join(wrong),
            wanted="every file as state.json names it",
            fix="the same command uses the checkpoint before it",
        )
    return _from_state(folder, state)


def load_checkpoint(checkpoint: Checkpoint, model: nn.Module, optimizer: Optimizer) -> None:
    """Put weights, moments and the random state back."""
    load_weights(checkpoint, model)
    optimizer.load_state_dict(torch.load(checkpoint.folder / MOMENTS, map_location="cpu", weights_only=True))
    torch.set_rng_state(torch.frombuffer(bytearray(checkpoint.rng), dtype=torch.uint8))


def load_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Put the weights alone into `model`: a parent's, under a fresh optimizer."""
    model.load_state_dict(load_file(checkpoint.folder / WEIGHTS))


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
        if int(folder.name.removeprefix("step_")) > step:
            aside = folder.with_name(f"damaged_{folder.name}")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)


def step_folder(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint of a step is published."""
    return checkpoints / f"step_{step:08d}"


def list_checkpoints(checkpoints: Path) -> list[Path]:
    """Published checkpoints, oldest first."""
    found = [folder for folder in checkpoints.glob("step_*") if _NAME.fullmatch(folder.name)]
    return sorted(found, key=lambda folder: int(folder.name.removeprefix("step_")))


def _from_state(folder: Path, state: dict[str, Any]) -> Checkpoint:
    return Checkpoint(
        folder=folder,
        cursor=Cursor(**{field.name: state[field.name] for field in fields(Cursor)}),
        identity=state["identity"],
        rng=bytes.fromhex(state["rng"]),
        weights_bytes=state["files"][WEIGHTS]["bytes"],
        weights_sha256=state["files"][WEIGHTS]["sha256"],
    )


@contextlib.contextmanager
def _refusing_a_full_disk(folder: Path) -> Iterator[None]:
    """Each writer has its own word for a disk that is full: safetensors one, torch a RuntimeError, Python OSError."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        raise EnvironmentProblem(
            f"the checkpoint {folder.name} could not be written; the ones before it are kept",
            seen=str(error).partition("\n")[0],
            wanted=f"free space and a healthy disk for {folder}",
            fix=f"df -h {folder.parent}; make space, then the same command goes on",
        ) from error


def _remove(folder: Path) -> None:
    """Rename first: a kill half-way leaves a temp to sweep, not something that looks like a checkpoint."""
    doomed = folder.with_name(f".{folder.name}.old.part")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def _fact(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": sha256_file(file)}


def _state_hash(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
