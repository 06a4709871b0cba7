"""Forged checkpoints: what a pickle in one would call is never called, though every hash agrees.

In:  a run of two checkpoints, of which the newer is forged; each forgery's hashes in state.json agree with it.
Holds: nothing but tensors and plain values comes out of optimizer.pt; a forgery is named and the one before is used.
"""

import io
import json
import os
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import run_in
from safetensors.torch import load_file, save
from training import here, settle

from dataprep import verify
from dataprep.errors import DataError
from dataprep.paths import Paths
from train.checkpoint import MOMENTS, STATE, WEIGHTS, file_fact, read_checkpoint, state_hash
from train.weights import open_model

LENGTH = ("--run", "base", "--tokens", "8192", "--checkpoint-every", "8")


class Trap:
    """What a pickle can carry: a call. This one makes a folder, once somebody loads it carelessly."""

    def __init__(self, marker: Path) -> None:
        self._marker = str(marker)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self._marker,)


def of_torch(trap: Trap) -> bytes:
    file = io.BytesIO()
    torch.save({"state": {}, "param_groups": [], "more": trap}, file)
    return file.getvalue()


def of_older_torch(trap: Trap) -> bytes:
    file = io.BytesIO()
    torch.save({"state": {}, "more": trap}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


FORGERIES: dict[str, tuple[str, Callable[[Trap], bytes]]] = {
    "a call inside a file of torch": (MOMENTS, of_torch),
    "the same as torch wrote it once": (MOMENTS, of_older_torch),
    "a bare pickle": (MOMENTS, pickle.dumps),
    "no pickle at all": (MOMENTS, lambda _: b"<html>"),
    "weights as a pickle": (WEIGHTS, of_torch),
    "weights as a page": (WEIGHTS, lambda _: b"<html>" * 20),
    "weights with a header longer than they are": (WEIGHTS, lambda _: b"\xff" * 8 + b"{}"),
    "weights of nothing": (WEIGHTS, lambda _: b""),
}


@pytest.fixture(scope="module")
def trained(packed_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("forged") / "root"
    shutil.copytree(packed_root, root)
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, root)
        here(*LENGTH)
    return root


@pytest.fixture
def root(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path / "root")
    settle(monkeypatch, tmp_path / "root")
    return tmp_path / "root"


def forge(folder: Path, name: str, content: bytes) -> None:
    """Put `content` there and let every hash of state.json agree with it."""
    (folder / name).write_bytes(content)
    rewrite(folder, files={each: file_fact(folder / each) for each in (WEIGHTS, MOMENTS)})


def rewrite(folder: Path, **values: object) -> None:
    state = json.loads((folder / STATE).read_text()) | values
    state.pop("sha256")
    (folder / STATE).write_text(json.dumps(state | {"sha256": state_hash(state)}))


def step_16(root: Path) -> Path:
    return root / "runs/base/checkpoints/step_00000016"


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_file_is_named_and_never_run_though_every_hash_agrees(
    forgery: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # torch's own way around what its caller says
    (name, make), marker = FORGERIES[forgery], tmp_path / "marker"
    content = make(Trap(marker))
    forge(step_16(root), name, content)
    with pytest.raises(DataError, match="checkpoint step_00000016 is damaged") as refused:
        read_checkpoint(step_16(root))
    assert refused.value.seen.startswith(name)
    assert len(str(refused.value).splitlines()) == 3
    assert not marker.exists()


def test_the_trap_of_these_tests_is_a_live_one(tmp_path: Path) -> None:
    torch.load(io.BytesIO(of_torch(Trap(tmp_path / "marker"))), weights_only=False)
    assert (tmp_path / "marker").is_dir()


@pytest.mark.parametrize("forgery", ["a call inside a file of torch", "weights as a page"])
def test_training_goes_on_from_the_checkpoint_before_a_forged_one(forgery: str, root: Path, tmp_path: Path) -> None:
    (name, make), marker = FORGERIES[forgery], tmp_path / "marker"
    forge(step_16(root), name, make(Trap(marker)))
    opened = open_model(Paths(root=root), "base", None, device=torch.device("cpu"))
    assert opened.label == "base@8"
    with pytest.raises(DataError, match="one of: base@8"):
        open_model(Paths(root=root), "base", 16, device=torch.device("cpu"))
    printed = here(*LENGTH)
    assert f"warning: checkpoint step_00000016 is damaged and skipped: {name}" in printed
    assert "from   step 8" in printed
    assert not marker.exists()


def without(tensors: dict[str, Any], name: str) -> dict[str, Any]:
    return {other: tensor for other, tensor in tensors.items() if other != name}


NORM = "final_norm.weight"
UNFIT: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a weight of another shape": (WEIGHTS, lambda weights: weights | {NORM: torch.ones(8)}),
    "a weight of another type": (WEIGHTS, lambda weights: weights | {NORM: torch.ones(32, dtype=torch.int64)}),
    "a weight less": (WEIGHTS, lambda weights: without(weights, NORM)),
    "a weight more": (WEIGHTS, lambda weights: weights | {"more": torch.ones(8)}),
    "moments of nothing": (MOMENTS, lambda moments: moments | {"state": {}}),
    "a moment less": (MOMENTS, lambda moments: moments | {"state": {0: without(moments["state"][0], "exp_avg")}}),
    "a moment of another shape": (
        MOMENTS,
        lambda moments: moments | {"state": {0: moments["state"][0] | {"exp_avg": torch.ones(3)}}},
    ),
    "a setting less": (
        MOMENTS,
        lambda moments: moments | {"param_groups": [without(group, "betas") for group in moments["param_groups"]]},
    ),
    "no moments": (MOMENTS, lambda _: {}),
    "a list": (MOMENTS, lambda _: [1]),
}


@pytest.mark.parametrize("change", UNFIT)
def test_what_does_not_fit_the_model_is_named_and_what_is_printed_leads_on(
    change: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, make = UNFIT[change]
    file = step_16(root) / name
    if name == WEIGHTS:
        content = save(make({key: tensor.clone() for key, tensor in load_file(file).items()}))
    else:
        written = io.BytesIO()
        torch.save(make(torch.load(file, weights_only=True)), written)
        content = written.getvalue()
    forge(step_16(root), name, content)
    assert read_checkpoint(step_16(root)).cursor.step == 16
    with pytest.raises(DataError, match="step_00000016 does not fit") as refused:
        here(*LENGTH)
    assert refused.value.seen.startswith(name)
    if name == WEIGHTS:
        with pytest.raises(DataError, match="step_00000016 does not fit"):
            open_model(Paths(root=root), "base", None, device=torch.device("cpu"))
    subprocess.run(["bash", "-c", refused.value.fix], check=True)
    assert "from   step 8" in here(*LENGTH)
    assert run_in(root, verify.main, "--full") == 0, capsys.readouterr().out


@pytest.mark.parametrize("values", [{"rng": "00"}, {"rng": ""}])
def test_a_random_state_that_torch_does_not_take_is_named(values: dict[str, object], root: Path) -> None:
    rewrite(step_16(root), **values)
    with pytest.raises(DataError, match="step_00000016 does not fit") as refused:
        here(*LENGTH)
    assert refused.value.seen.startswith(STATE)


@pytest.mark.parametrize("identity", [{}, {"tokenizer": "tiny-bpe", "fingerprint": "", "model": {"n_wheels": 4}}])
def test_a_state_that_does_not_say_what_model_it_is_of_is_named(identity: dict[str, object], root: Path) -> None:
    rewrite(step_16(root), identity=identity)
    with pytest.raises(DataError, match="step_00000016 does not fit"):
        open_model(Paths(root=root), "base", None, device=torch.device("cpu"))


@pytest.mark.parametrize(
    "values",
    [{"rng": "no hex"}, {"identity": None, "step": "../16"}, {"files": {}}, {"files": {"/dev/zero": {}}}, {"rng": 5}],
)
def test_a_state_that_names_other_files_or_no_values_is_damage(values: dict[str, object], root: Path) -> None:
    rewrite(step_16(root), **values)
    with pytest.raises(DataError, match="step_00000016 is damaged"):
        read_checkpoint(step_16(root))
