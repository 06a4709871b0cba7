"""A rank of several is killed, stands still or holds other data: three lines say so, the same command goes on."""

import shutil
from pathlib import Path

import pytest
from conftest import run_in
from rank_faults import NOTHING, by_hand, by_torchrun, differences
from torch import nn
from training import REPOSITORY, here, journal_of

from dataprep import pack
from dataprep.errors import DataError
from train.agreement import refuse_difference
from train.beginning import begin_with
from train.checkpoint import newest_good
from train.optim import make_optimizer

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="orphans are looked for in /proc")


def test_a_rank_killed_in_a_step_is_told_before_torchruns_report_and_the_same_command_resumes_exactly(
    root: Path,
) -> None:
    assert by_hand("whole").codes == (0, 0)
    ended = by_torchrun("killed", ("1", "step", "13", "KILL"))
    assert ended.tells_once("another rank is gone"), ended.said
    assert ended.said.index("error: another rank is gone") < ended.said.index("ChildFailedError")
    assert ended.codes == (1,)
    assert ended.orphans == ()
    assert journal_of(root, "killed").of_kind("end")[-1]["status"] == "failed"
    again = by_hand("killed")
    assert again.codes == (0, 0), again.said
    assert differences(root, "killed", "whole") == []
    assert [start["rows_done"] for start in journal_of(root, "killed").of_kind("start")] == [0, 120]


@pytest.mark.usefixtures("root")
def test_a_rank_that_stands_still_for_longer_than_the_timeout_ends_the_others_with_three_lines() -> None:
    ended = by_hand("stopped", ("1", "step", "3", "STOP"), "--rank-timeout", "0.02")
    assert ended.tells_once("has not answered for as long as --rank-timeout allows"), ended.said
    assert "Timed out waiting 1200ms" in ended.said
    assert ended.codes == (5, -9)
    assert ended.orphans == ()


@pytest.mark.usefixtures("root")
def test_a_rank_that_starts_later_than_the_timeout_is_waited_for(tmp_path: Path) -> None:
    """As where a disk is cold: --rank-timeout is for ranks that fall silent, not for those that come late."""
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep(4)\n")
    late = {1: {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}}
    ended = by_hand("late", NOTHING, "--rank-timeout", "0.04", "--print-row-hash", each=late)
    assert ended.codes == (0, 0), ended.said


def test_a_rank_with_another_recipe_on_its_disk_is_refused_by_name(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(root, other)
    for file in ("recipes/mix.toml", "plans/mix.parquet"):
        (other / "manifests" / file).unlink()
    asked = ["--mix", "60:40", "--sources", "alpha,beta", "--name", "mix", "--seq-len", "64", "--seed", "1"]
    assert run_in(other, pack.main, *asked) == 0
    ended = by_hand("two-minds", each={1: {"DATAPREP_ROOT": str(other)}})
    assert ended.said.count("error: rank 1 is about to train another recipe_sha256 than rank 0") == 1, ended.said
    assert ended.codes == (3, 3)
    assert not (root / "runs" / "two-minds").exists()


def test_a_rank_that_does_not_see_the_checkpoint_that_the_first_one_found_says_where_it_looked(root: Path) -> None:
    here("--run-name", "base", "--tokens", "512")
    checkpoint, _ = newest_good(root / "runs/base/checkpoints")
    assert checkpoint
    shutil.rmtree(checkpoint.folder)
    model = nn.Linear(1, 1)
    with pytest.raises(DataError, match="is not where this rank looks") as refused:
        begin_with(checkpoint, None, model, make_optimizer(model, "adamw"))
    assert str(checkpoint.folder) in refused.value.seen


def test_of_two_settings_only_what_differs_is_told() -> None:
    first = {"run": "a", "batch": {"micro_batch": 2, "seq_len": 64}}
    refuse_difference([first, first])
    with pytest.raises(DataError, match="rank 2 is about to train another batch than rank 0") as refused:
        refuse_difference([first, first, {"run": "a", "batch": {"micro_batch": 1, "seq_len": 64}}])
    assert refused.value.seen == "micro_batch 1"
