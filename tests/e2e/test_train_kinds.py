"""Runs that ask for more than the defaults: Muon, wsd, an untied head; stopped, gone on, and the same to the bit."""

import shutil
from pathlib import Path

import pytest
import torch
from training import FLAGS, here, losses, records, settle, weights

from dataprep.errors import DataError

KIND = ("--optimizer", "muon", "--schedule", "wsd", "--head", "untied")
EIGHT_STEPS, SIXTEEN_STEPS = ("--tokens", "4096"), ("--tokens", "8192")


@pytest.fixture
def root(packed_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "root"
    shutil.copytree(packed_root, copy)
    settle(monkeypatch, copy)
    return copy


def test_a_muon_run_that_stopped_goes_on_to_the_same_weights(root: Path) -> None:
    asked = (*FLAGS, "--recipe", "mix", *KIND)
    here(*asked, "--run", "whole", *SIXTEEN_STEPS)
    here(*asked, "--run", "parts", *EIGHT_STEPS)
    here("--manifest", "--run", "parts", "--device", "cpu", *SIXTEEN_STEPS)
    assert losses(root, "parts") == losses(root, "whole")
    assert losses(root, "whole")[-1] < losses(root, "whole")[0] - 0.5
    of_parts, of_whole = weights(root, "parts"), weights(root, "whole")
    assert of_parts.keys() == of_whole.keys() >= {"head.weight", "embedding.weight"}
    assert all(torch.equal(of_parts[name], of_whole[name]) for name in of_whole)
    begun = records(root, "parts", "start")[1]
    assert (begun["optimizer"], begun["schedule"], begun["model"]["tied"]) == ("muon", "wsd", False)
    rates = [[record["lr"] for record in records(root, run, "step")] for run in ("whole", "parts")]
    assert rates[0] == rates[1]
    assert sorted(rates[0]) == rates[0]  # the plan is longer than this: up, then at the peak


@pytest.mark.usefixtures("root")
def test_the_head_cannot_change_while_a_run_goes_on() -> None:
    here(*FLAGS, "--recipe", "mix", "--run", "base", *EIGHT_STEPS)
    with pytest.raises(DataError, match="another model"):
        here(*FLAGS, "--recipe", "mix", "--run", "base", "--head", "untied", *SIXTEEN_STEPS)
