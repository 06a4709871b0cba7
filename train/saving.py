"""Saving: a checkpoint is copied to host memory while training waits, and written while it goes on.

In:  a model, an optimizer, where training stands. Out: runs/<run>/checkpoints/step_00000050/, published whole.
Holds: one save in flight at most, a second waits for the first; what the writer met is raised where the loop looks;
       an older checkpoint goes only after the newer one is in the journal, which the loop's own thread writes.
Costs: one more copy in host memory, made at the first save and used again: 12 bytes a parameter under AdamW (6 GB for
       500M; on a GPU pinned, where the allocator rounds each tensor up to a power of two). A copy at memory speed.
saver.begin(cursor, model, optimizer) … saver.published() is not None … saver.remove_old() … saver.close()
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dataprep.publish import publishing_folder
from dataprep.state_file import STATE, state_text
from train.checkpoint import MOMENTS, WEIGHTS, Checkpoint, Cursor, file_fact, from_state
from train.disk import refusing
from train.keeping import remove_old
from train.optim import Optimizer
from train.step_folders import step_folder


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything a checkpoint holds, on the host: training may go on while it is written."""

    cursor: Cursor
    identity: dict[str, Any]
    rng: bytes
    weights: dict[str, Tensor]
    moments: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A published checkpoint, how long training waited for its copy, and how long the writing took."""

    checkpoint: Checkpoint
    stall_seconds: float
    write_seconds: float


class Saver:
    """Writes the checkpoints of one attempt, one after another, beside the training."""

    def __init__(self, checkpoints: Path, identity: dict[str, Any], *, keep: int, keep_every: int | None) -> None:
        self._checkpoints, self._identity = checkpoints, identity
        self._keep, self._keep_every = keep, keep_every
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saver")
        self._saving: Future[Saved] | None = None
        self._removing: Future[list[str]] | None = None
        self._copies: dict[str, Any] = {}

    def begin(self, cursor: Cursor, model: nn.Module, optimizer: Optimizer) -> None:
        """Copy to the host and return; the writing goes on by itself. The save before must have been taken."""
        assert self._saving is None, "the copy is still being written: take `published(wait=True)` first"
        started = time.perf_counter()
        state = {"weights": model.state_dict(), "moments": optimizer.state_dict()}
        self._copies = copy_to_host(state, self._copies)
        rng = torch.get_rng_state().numpy().tobytes()
        snapshot = Snapshot(cursor=cursor, identity=self._identity, rng=rng, **self._copies)
        self._saving = self._writer.submit(self._publish, snapshot, time.perf_counter() - started)

    def published(self, *, wait: bool = False) -> Saved | None:
        """The checkpoint published since the last look, once. Raises EnvironmentProblem if it could not be written."""
        if self._saving is None or not (wait or self._saving.done()):
            return None
        saving, self._saving = self._saving, None
        return saving.result()

    def remove_old(self) -> None:
        """Let those go that no rule keeps, beside the training."""
        self._removing = self._writer.submit(self._remove_old)

    def removed(self, *, wait: bool = False) -> list[str]:
        """Warnings of the removal that ended since the last look. Raises EnvironmentProblem if it could not be done."""
        if self._removing is None or not (wait or self._removing.done()):
            return []
        removing, self._removing = self._removing, None
        return removing.result()

    def close(self) -> None:
        """Wait for the writer's thread to end."""
        self._writer.shutdown()

    def _publish(self, snapshot: Snapshot, stall_seconds: float) -> Saved:
        started = time.perf_counter()
        made = publish_checkpoint(self._checkpoints, snapshot)
        seconds = time.perf_counter() - started
        return Saved(checkpoint=made, stall_seconds=round(stall_seconds, 6), write_seconds=round(seconds, 6))

    def _remove_old(self) -> list[str]:
        with refusing(f"an old checkpoint could not be removed from {self._checkpoints}", self._checkpoints):
            return remove_old(self._checkpoints, keep=self._keep, keep_every=self._keep_every)


def publish_checkpoint(checkpoints: Path, snapshot: Snapshot) -> Checkpoint:
    """Publish step_<step>. Raises EnvironmentProblem, most often for a full disk."""
    folder = step_folder(checkpoints, snapshot.cursor.step)
    refusal = f"the checkpoint {folder.name} could not be written; the ones before it are kept"
    with refusing(refusal, folder, needed_bytes=_bytes_of(snapshot)), publishing_folder(folder) as part:
        save_file(snapshot.weights, part / WEIGHTS)
        torch.save(snapshot.moments, part / MOMENTS)
        state = {**vars(snapshot.cursor), "identity": snapshot.identity, "rng": snapshot.rng.hex()}
        state |= {"files": {name: file_fact(part / name) for name in (WEIGHTS, MOMENTS)}}
        (part / STATE).write_text(state_text(state))
    return from_state(folder, state)


def _bytes_of(snapshot: Snapshot) -> int:
    return _tensor_bytes(snapshot.weights) + _tensor_bytes(snapshot.moments)


def _tensor_bytes(state: Any) -> int:
    if isinstance(state, Tensor):
        return state.nbytes
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(_tensor_bytes(part) for part in parts)


def copy_to_host(state: Any, copies: Any = None) -> Any:
    """`state` with every tensor copied to the host, into the tensors of `copies` (an earlier result) where they fit."""
    copied = _copy(state, copies)
    if torch.cuda.is_available():
        torch.cuda.current_stream().synchronize()  # copies into pinned memory are still on their way
    return copied


def _copy(state: Any, copies: Any) -> Any:
    if isinstance(state, Tensor):
        return _copy_tensor(state.detach(), copies)
    if isinstance(state, dict):
        before = copies if isinstance(copies, dict) else {}
        return {key: _copy(value, before.get(key)) for key, value in state.items()}
    if isinstance(state, list | tuple):
        before = copies if isinstance(copies, list | tuple) and len(copies) == len(state) else [None] * len(state)
        return type(state)(_copy(value, copy) for value, copy in zip(state, before, strict=True))
    return state


def _copy_tensor(tensor: Tensor, copy: Any) -> Tensor:
    if not (isinstance(copy, Tensor) and (copy.shape, copy.dtype) == (tensor.shape, tensor.dtype)):
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return copy.copy_(tensor, non_blocking=True)
