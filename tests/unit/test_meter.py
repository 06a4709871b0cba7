"""Hours and dollars: counted over attempts, refused when they are gone."""

import pytest

from dataprep.errors import BudgetError, UsageError
from train.config import parse_config
from train.meter import Meter, check_limits, seconds_taken
from train.routine import Routine, choose_routine

RECORDS = [
    {"kind": "step", "attempt": 1, "seconds": 10.0},
    {"kind": "step", "attempt": 1, "seconds": 20.0},  # killed: no end record
    {"kind": "step", "attempt": 2, "seconds": 5.0},
    {"kind": "end", "attempt": 2, "seconds": 3570.0},
]


def config(*flags: str) -> Routine:
    return choose_routine(parse_config(["--manifest", *flags]), {})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_an_attempt_counts_by_its_end_or_by_its_steps() -> None:
    assert seconds_taken(RECORDS) == 3600.0


def test_a_run_has_cost_what_all_its_attempts_did(clock: list[float]) -> None:
    meter = Meter(RECORDS, usd_per_hour=6.0)
    clock[0] += 1800
    assert meter.hours == 1.5
    assert meter.usd == 9.0
    assert meter.usd_after(3600) == 15.0
    assert str(meter) == "1.50 hours, $9.00"


def test_the_limit_passed_is_named_before_the_step_that_would_pass_it(clock: list[float]) -> None:
    meter = Meter([], usd_per_hour=6.0)
    asked = config("--max-usd", "9", "--max-hours", "2")
    clock[0] += 5000
    assert meter.passed(asked) is None
    assert meter.passed(asked, ahead_seconds=400) is None
    assert meter.passed(asked, ahead_seconds=401) == "--max-usd 9"
    assert Meter([], usd_per_hour=None).passed(asked, ahead_seconds=7201) == "--max-hours 2"


def test_a_limit_without_a_price_or_already_passed_is_refused() -> None:
    with pytest.raises(UsageError, match="--usd-per-hour"):
        check_limits(config("--max-usd", "9"), Meter([], usd_per_hour=None))
    with pytest.raises(BudgetError, match=r"already taken what --max-hours 1 allows(?s:.)*larger --max-hours"):
        check_limits(config("--max-hours", "1"), Meter([*RECORDS, {**RECORDS[-1], "attempt": 3}], usd_per_hour=None))
    check_limits(config("--max-hours", "1.1"), Meter(RECORDS, usd_per_hour=None))


@pytest.mark.parametrize("flag", ["--max-usd", "--max-hours", "--usd-per-hour", "--checkpoint-minutes"])
@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "ten"])
def test_a_limit_is_a_number_above_zero(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        config(flag, value)
    assert "is not a number above 0" in capsys.readouterr().err
