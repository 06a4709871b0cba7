"""What a run remembers when it goes on, and what makes it stop: dollars, hours, numbers that are not finite."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from training import FLAGS, here, losses, main, records, settle, weights

from dataprep import pack
from dataprep.errors import BudgetError, DataError, UsageError
from train.loop import Attempt
from train.meter import Meter

TWENTY_STEPS = ("--tokens", "10240")


@pytest.fixture
def root(packed_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "root"
    shutil.copytree(packed_root, copy)
    settle(monkeypatch, copy)
    return copy


def test_the_runs_name_alone_goes_on_as_it_was_begun(root: Path) -> None:
    here(*FLAGS, "--recipe", "mix", "--run", "base", "--seed", "3", "--learning-rate", "2e-3", *TWENTY_STEPS)
    pack.main(["--mix", "1", "--sources", "alpha", "--seq-len", "64", "--name", "newer"])
    here("--manifest", "--run", "base", "--device", "cpu", "--tokens", "20480")
    first, second = records(root, "base", "start")
    kept = ("recipe", "preset", "model", "seed", "optimizer", "schedule", "learning_rate", "batch_rows", "stage")
    assert {key: second[key] for key in kept} == {key: first[key] for key in kept}
    assert (first["seed"], first["learning_rate"], first["recipe"]) == (3, 2e-3, "mix")


def test_a_child_is_of_its_parents_model_unless_another_is_asked(root: Path) -> None:
    here(*FLAGS, "--recipe", "mix", "--run", "base", *TWENTY_STEPS)
    child = ("--manifest", "--parent", "base", "--recipe", "mix", "--device", "cpu", "--batch-tokens", "512")
    here(*child, "--run", "child", *TWENTY_STEPS)
    assert records(root, "child", "start")[0]["preset"] == "nano"
    with pytest.raises(DataError, match="another model"):
        here(*child, "--run", "other", "--model", "tiny")


@pytest.mark.usefixtures("root")
def test_an_optimizer_that_the_run_was_not_begun_with_is_refused() -> None:
    here(*FLAGS, "--recipe", "mix", "--run", "base", *TWENTY_STEPS)
    with pytest.raises(DataError, match="another optimizer"):
        here(*FLAGS, "--run", "base", "--optimizer", "muon")


def test_a_limit_stops_with_a_checkpoint_and_is_refused_once_it_is_gone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = (*FLAGS, "--recipe", "mix", "--run", "dear", "--usd-per-hour", "3600", "--max-usd", "10")
    # A dollar a second, and a clock that ticks once per look: the limit comes after a few steps.
    ticks = iter(range(10_000))
    monkeypatch.setattr(Meter, "seconds_now", property(lambda _: float(next(ticks))))
    printed = here(*flags)
    (end,) = records(root, "dear", "end")
    (saved,) = records(root, "dear", "checkpoint")
    assert end["status"] == "stopped"
    assert 0 < end["step"] == saved["step"] < 20
    assert "--max-usd 10 allows no further step: this run took" in printed
    assert printed.splitlines()[-1].startswith("go on with: python train/main.py --manifest")
    assert printed.splitlines()[-1].endswith("(with a larger --max-usd)")
    assert re.search(r" \| \$\d+\.\d\d → \$\d+\.\d\d \| eta ", printed)
    monkeypatch.undo()
    settle(monkeypatch, root)
    with pytest.raises(BudgetError, match="already taken what --max-usd"):
        here(*flags[:-1], "1")
    here(*flags[:-1], "10000", *TWENTY_STEPS)
    here(*FLAGS, "--recipe", "mix", "--run", "plain", *TWENTY_STEPS)
    assert losses(root, "dear") == losses(root, "plain")


def test_dollars_without_a_price_are_refused_and_leave_no_run(root: Path) -> None:
    with pytest.raises(UsageError, match="needs a price"):
        here(*FLAGS, "--recipe", "mix", "--run", "dear", "--max-usd", "10")
    assert not (root / "runs" / "dear").exists()


def test_hours_stop_two_ranks_at_one_step(root: Path) -> None:
    done = main(*FLAGS, "--recipe", "mix", "--run", "brief", "--max-hours", "0.0006", ranks=2)
    assert done.returncode == 0, done.stderr
    (end,) = records(root, "brief", "end")
    assert end["status"] == "stopped"
    assert [record["step"] for record in records(root, "brief", "step")] == list(range(1, end["step"] + 1))


def test_a_step_that_is_not_finite_leaves_a_checkpoint_and_says_which_rows(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Attempt._accumulate_gradients

    def broken_after_seven(self: Attempt, *rows: Any) -> float:
        loss = honest(self, *rows)
        return float("inf") if self.cursor.step == 7 else loss

    here(*FLAGS, "--recipe", "mix", "--run", "good", "--tokens", "3584")
    monkeypatch.setattr(Attempt, "_accumulate_gradients", broken_after_seven)
    with pytest.raises(DataError) as raised:
        here(*FLAGS, "--recipe", "mix", "--run", "bad")
    assert "step 8 is not finite and was not taken; the weights of step 7 are kept" in str(raised.value)
    assert "rows 56 to 64" in str(raised.value)
    assert "python -m dataprep.explain --run bad --step 8" in str(raised.value)
    kept, wanted = weights(root, "bad"), weights(root, "good")
    assert all(bool((kept[name] == wanted[name]).all()) for name in wanted)
    monkeypatch.undo()
    settle(monkeypatch, root)
    here(*FLAGS, "--recipe", "mix", "--run", "bad", "--learning-rate", "1e-3", *TWENTY_STEPS)
    assert records(root, "bad", "start")[-1]["step"] == 7
