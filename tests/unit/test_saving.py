"""The saver: what it copies, that training need not wait for the disk, and what becomes of its errors."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dataprep.errors import EnvironmentProblem
from train import saving
from train.checkpoint import Cursor, load_checkpoint, read_checkpoint
from train.optim import Optimizer, make_optimizer
from train.saving import Saver, copy_to_host
from train.step_folders import list_checkpoints

IDENTITY = {"recipe": "mix", "seed": 1}


@pytest.fixture
def saver(tmp_path: Path) -> Any:
    made = Saver(tmp_path, IDENTITY, keep=1, keep_every=None)
    yield made
    made.close()


def trained() -> tuple[nn.Module, Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(3, 3)
    optimizer = make_optimizer(model, "adamw")
    step(model, optimizer)
    return model, optimizer


def step(model: nn.Module, optimizer: Optimizer) -> None:
    model(torch.ones(2, 3)).sum().backward()
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()


def test_a_copy_shares_nothing_with_what_it_is_of_and_is_used_again() -> None:
    parts = [{"moments": torch.ones(2, 3)}, {"moments": torch.zeros(4)}]
    state = {"parts": parts, "steps": (torch.tensor(3.0), 7), "x": None}
    first = copy_to_host(state)
    parts[0]["moments"] += 1
    assert first["parts"][0]["moments"].sum() == 6
    second = copy_to_host(state, first)
    assert second["parts"][0]["moments"].sum() == 12
    assert second["parts"][0]["moments"].data_ptr() == first["parts"][0]["moments"].data_ptr()
    assert (second["steps"], second["x"]) == ((torch.tensor(3.0), 7), None)


def test_a_copy_takes_new_memory_where_shape_or_kind_changed_and_is_in_order_in_memory() -> None:
    first = copy_to_host({"a": torch.ones(2), "b": [torch.ones(1)]})
    second = copy_to_host({"a": torch.zeros(3, 2).T, "b": [torch.ones(1), torch.ones(1).double()]}, first)
    assert second["a"].shape == (2, 3)
    assert second["a"].is_contiguous()
    assert [tensor.dtype for tensor in second["b"]] == [torch.float32, torch.float64]


def test_training_goes_on_while_the_disk_is_slow_and_the_file_holds_what_was_copied(
    saver: Saver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_is_ready, honest = threading.Event(), saving.save_file
    monkeypatch.setattr(saving, "save_file", lambda *given: (disk_is_ready.wait(10), honest(*given)))
    model, optimizer = trained()
    wanted = model.weight.detach().clone()
    saver.begin(Cursor(step=1, rows_done=8), model, optimizer)
    assert saver.published() is None
    step(model, optimizer)
    assert not torch.equal(model.weight, wanted)
    assert list_checkpoints(tmp_path) == []
    disk_is_ready.set()
    saved = saver.published(wait=True)
    assert saved is not None
    assert saved.checkpoint == read_checkpoint(tmp_path / "step_00000001")
    assert saver.published(wait=True) is None, "it is told once"
    load_checkpoint(saved.checkpoint, model, optimizer)
    assert torch.equal(model.weight, wanted)


def test_what_the_writer_met_is_raised_where_one_looks_and_once(saver: Saver, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    saver.begin(Cursor(step=1, rows_done=8), *trained())
    with pytest.raises(EnvironmentProblem, match=r"step_00000001 could not be written.*\n.*No space left"):
        saver.published(wait=True)
    assert saver.published(wait=True) is None


def test_an_old_checkpoint_that_cannot_be_removed_is_said(saver: Saver, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(saving, "remove_old", forbidden)
    saver.remove_old()
    with pytest.raises(EnvironmentProblem, match="old checkpoint could not be removed"):
        saver.removed(wait=True)
