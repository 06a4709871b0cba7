"""What a run remembers when it goes on, and what makes it stop: dollars, hours, numbers that are not finite."""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training import by_name, here, losses, main, records, weights

from dataprep import pack
from dataprep.errors import BudgetError, DataError, UsageError
from train.judge import Judge
from train.loop import Attempt
from train.meter import Meter

TWENTY_STEPS = ("--tokens", "10240")


def test_the_runs_name_alone_goes_on_as_it_was_begun(root: Path) -> None:
    here("--run", "base", "--seed", "3", "--learning-rate", "2e-3", *TWENTY_STEPS)
    pack.main(["--mix", "1", "--sources", "alpha", "--seq-len", "64", "--name", "newer"])
    by_name("base", "--tokens", "20480")
    first, second = records(root, "base", "start")
    kept = ("recipe", "preset", "model", "seed", "optimizer", "schedule", "learning_rate", "batch_rows", "stage")
    assert {key: second[key] for key in kept} == {key: first[key] for key in kept}
    assert (first["seed"], first["learning_rate"], first["recipe"]) == (3, 2e-3, "mix")


def test_the_runs_name_alone_keeps_the_checkpoints_that_were_to_stay_and_the_micro_batch(root: Path) -> None:
    kept = ("--checkpoint-every", "5", "--keep", "3", "--keep-every", "10", "--micro-batch", "2")
    here("--run", "base", *kept, *TWENTY_STEPS)
    by_name("base", "--tokens", "15360", "--checkpoint-every", "5")
    folders = sorted(folder.name for folder in (root / "runs" / "base" / "checkpoints").iterdir())
    assert folders == [f"step_{step:08}" for step in (10, 20, 25, 30)]
    assert [start["micro_batch"] for start in records(root, "base", "start")] == [2, 2]
    by_name("base", "--tokens", "17920", "--keep", "1")
    assert not (root / "runs" / "base" / "checkpoints" / "step_00000025").exists(), "what is asked now wins"


def test_a_child_is_of_its_parents_model_unless_another_is_asked(root: Path) -> None:
    here("--run", "base", *TWENTY_STEPS)
    child = ("--parent", "base", "--recipe", "mix", "--batch-tokens", "512")
    by_name("child", *child, *TWENTY_STEPS)
    assert records(root, "child", "start")[0]["preset"] == "nano"
    with pytest.raises(DataError, match="another model"):
        by_name("other", *child, "--model", "tiny")


@pytest.mark.usefixtures("root")
def test_an_optimizer_that_the_run_was_not_begun_with_is_refused() -> None:
    here("--run", "base", *TWENTY_STEPS)
    with pytest.raises(DataError, match="another optimizer"):
        here("--run", "base", "--optimizer", "muon")


def test_a_limit_stops_with_a_checkpoint_and_is_refused_once_it_is_gone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--run", "dear", "--usd-per-hour", "3600", "--max-usd", "10")
    # A dollar a second, and a clock that ticks once per look: the limit comes after a few steps.
    ticks = iter(range(10_000))
    with monkeypatch.context() as ticking:
        ticking.setattr(Meter, "seconds_now", property(lambda _: float(next(ticks))))
        printed = here(*flags)
    (end,) = records(root, "dear", "end")
    (saved,) = records(root, "dear", "checkpoint")
    assert end["status"] == "stopped"
    assert 0 < end["step"] == saved["step"] < 20
    assert "--max-usd 10 allows no further step: this run took" in printed
    assert printed.splitlines()[-1].startswith("go on with: python train/main.py --manifest")
    assert printed.splitlines()[-1].endswith("(with a larger --max-usd)")
    assert re.search(r" \| \$\d+\.\d\d → \$\d+\.\d\d \| eta ", printed)
    with pytest.raises(BudgetError, match="already taken what --max-usd"):
        here(*flags[:-1], "1")
    here(*flags[:-1], "10000", *TWENTY_STEPS)
    here("--run", "plain", *TWENTY_STEPS)
    assert losses(root, "dear") == losses(root, "plain")


@pytest.mark.usefixtures("root")
def test_a_finished_run_asked_again_is_told_whatever_it_took() -> None:
    here("--run", "done", *TWENTY_STEPS)
    again = here("--run", "done", *TWENTY_STEPS, "--max-hours", "1e-9")
    assert "nothing is left to train" in again


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_who_stops_a_run_in_its_last_seconds_or_hangs_up_before_it_trains_changes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def struck(honest: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: (os.kill(os.getpid(), number), honest(*given))[1]

    if number == signal.SIGHUP:
        monkeypatch.setattr(Attempt, "_made_ready", struck(Attempt._made_ready))
    monkeypatch.setattr(Judge, "_say_last", struck(Judge._say_last))
    assert "stopped at step 2;" in here("--run", "struck", "--tokens", "1024")
    assert [end["status"] for end in records(root, "struck", "end")] == ["stopped"]
    assert len(records(root, "struck", "sample")) == 1


@pytest.mark.usefixtures("root")
def test_a_limit_is_remembered_and_shown_until_another_is_given() -> None:
    flags = ("--run", "dear", "--usd-per-hour", "3600", "--max-usd", "10000")
    here(*flags, "--tokens", "1024")
    assert "limits --max-usd 10000" in by_name("dear", "--tokens", "2048")
    with pytest.raises(BudgetError, match=r"already taken what --max-usd 0\.001"):
        by_name("dear", "--tokens", "3072", "--max-usd", "0.001")
    printed = by_name("dear", "--tokens", "3072", "--max-hours", "5")
    assert "limits --max-usd 10000 --max-hours 5" in printed


def test_dollars_without_a_price_are_refused_and_leave_no_run(root: Path) -> None:
    with pytest.raises(UsageError, match="needs a price"):
        here("--run", "dear", "--max-usd", "10")
    assert not (root / "runs" / "dear").exists()


def test_hours_stop_two_ranks_at_one_step(root: Path) -> None:
    done = main("--run", "brief", "--max-hours", "0.0004", "--batch-tokens", "128", ranks=2)  # 1.4 s for 518 steps
    assert done.returncode == 0, done.stderr
    (end,) = records(root, "brief", "end")
    assert end["status"] == "stopped"
    assert end["step"] < 518  # 0 on a busy machine: what comes before the first step is paid for as well
    assert [record["step"] for record in records(root, "brief", "step")] == list(range(1, end["step"] + 1))


def test_a_step_that_is_not_finite_leaves_a_checkpoint_and_says_which_rows(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Attempt._accumulate_gradients

    def broken_after_seven(self: Attempt, *rows: Any) -> float:
        loss = honest(self, *rows)
        return float("inf") if self.cursor.step == 7 else loss

    here("--run", "good", "--tokens", "3584")
    with monkeypatch.context() as broken:
        broken.setattr(Attempt, "_accumulate_gradients", broken_after_seven)
        with pytest.raises(DataError) as raised:
            here("--run", "bad")
    assert "step 8 is not finite and was not taken; the weights of step 7 are kept" in str(raised.value)
    assert "rows 56 to 64" in str(raised.value)
    assert raised.value.fix.startswith("python -m dataprep.explain --run bad --step 8  #"), (
        "as a whole it can be pasted"
    )
    assert raised.value.fix.endswith("--learning-rate 0.0015")
    kept, wanted = weights(root, "bad"), weights(root, "good")
    assert all(bool((kept[name] == wanted[name]).all()) for name in wanted)
    here("--run", "bad", "--learning-rate", "1e-3", *TWENTY_STEPS)
    assert records(root, "bad", "start")[-1]["step"] == 7


def test_the_speed_and_the_time_left_are_of_the_steps_not_of_the_validation_before_them(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Judge._validate
    here("--run", "base", "--tokens", "512")
    monkeypatch.setattr(Judge, "_validate", lambda *given: (time.sleep(1), honest(*given))[1])
    printed = here("--run", "child", "--parent", "base", *TWENTY_STEPS)
    first = next(line for line in printed.splitlines() if line.startswith("step 1/"))
    (tokens_per_s,) = re.findall(r"([\d,]+) tok/s", first)
    counted = records(root, "child", "step")[0]["tokens_per_s"]
    assert int(tokens_per_s.replace(",", "")) == pytest.approx(counted, rel=1e-3)
    assert int(re.findall(r"eta (\d+)s", first)[0]) < 19, "a second for each of 19 steps, if the wait were counted"
