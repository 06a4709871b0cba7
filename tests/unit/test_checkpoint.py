"""Checkpoints: whole, damaged, kept, swept."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from dataprep.errors import DataError
from train.checkpoint import (
    Checkpoint,
    Cursor,
    clear_the_way,
    load_checkpoint,
    newest_good,
    read_checkpoint,
)
from train.keeping import remove_old
from train.optim import Optimizer, make_optimizer
from train.saving import Saver
from train.step_folders import list_checkpoints

IDENTITY = {"recipe": "mix", "recipe_sha256": "ab" * 32, "fingerprint": "cd" * 32, "model": {"width": 3}, "seed": 1}


def trained(seed: int) -> tuple[nn.Module, Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 3), nn.RMSNorm(3))
    optimizer = make_optimizer(model, "adamw")
    model(torch.randn(2, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def save(folder: Path, step: int, seed: int = 0) -> Checkpoint:
    cursor = Cursor(step=step, rows_done=8 * step, tokens_done=500 * step, loss_tokens_done=400 * step)
    saver = Saver(folder, IDENTITY, keep=2, keep_every=None)
    saver.begin(cursor, *trained(seed))
    saved = saver.published(wait=True)
    assert saved is not None
    saver.close()
    return saved.checkpoint


def names(folder: Path) -> list[str]:
    return [found.name for found in list_checkpoints(folder)]


def test_a_checkpoint_brings_back_weights_moments_cursor_and_randomness(tmp_path: Path) -> None:
    made = save(tmp_path, 5)
    next_draw = torch.rand(3)
    read = read_checkpoint(tmp_path / "step_00000005")
    assert read == made
    assert read.cursor == Cursor(step=5, rows_done=40, tokens_done=2_500, loss_tokens_done=2_000)
    assert read.identity == IDENTITY
    model, optimizer = trained(seed=9)
    load_checkpoint(read, model, optimizer)
    assert torch.equal(torch.rand(3), next_draw)
    wanted_model, wanted_optimizer = trained(seed=0)
    for ours, wanted in zip(model.state_dict().values(), wanted_model.state_dict().values(), strict=True):
        assert torch.equal(ours, wanted)
    assert str(optimizer.state_dict()) == str(wanted_optimizer.state_dict())


def test_the_state_names_sizes_and_hashes(tmp_path: Path) -> None:
    save(tmp_path, 5)
    state = json.loads((tmp_path / "step_00000005" / "state.json").read_text())
    assert state["files"].keys() == {"model.safetensors", "optimizer.pt"}
    assert all({"bytes", "sha256"} == fact.keys() for fact in state["files"].values())


def test_only_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save(tmp_path, step)
    assert remove_old(tmp_path, keep=2, keep_every=None) == []
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step_00000010", "step_00000015"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "missing"])
def test_any_damage_is_found_and_the_checkpoint_before_is_used(tmp_path: Path, name: str, damage: str) -> None:
    save(tmp_path, 5)
    save(tmp_path, 10)
    file = tmp_path / "step_00000010" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content if damage == "flip" else content[:-7])
    if damage == "missing":
        file.unlink()
    found, complaints = newest_good(tmp_path)
    assert found is not None
    assert found.cursor.step == 5
    assert ["checkpoint step_00000010 is damaged" in str(complaint) for complaint in complaints] == [True]


def test_a_row_count_edited_by_hand_is_damage(tmp_path: Path) -> None:
    save(tmp_path, 5)
    file = tmp_path / "step_00000005" / "state.json"
    file.write_text(file.read_text().replace('"rows_done": 40', '"rows_done": 48'))
    with pytest.raises(DataError, match=r"state\.json"):
        read_checkpoint(file.parent)


def test_damaged_ones_make_way_for_the_steps_trained_again(tmp_path: Path) -> None:
    for step in (5, 10):
        save(tmp_path, step)
    (tmp_path / "step_00000010" / "optimizer.pt").write_bytes(b"")
    (tmp_path / ".step_00000015.x.part").mkdir()
    clear_the_way(tmp_path, 5)
    assert names(tmp_path) == ["step_00000005"]
    assert (tmp_path / "damaged_step_00000010").is_dir()
    assert not list(tmp_path.glob("*.part"))
    save(tmp_path, 10)
    assert names(tmp_path) == ["step_00000005", "step_00000010"]


def test_no_checkpoint_is_no_complaint(tmp_path: Path) -> None:
    assert newest_good(tmp_path / "none") == (None, [])
