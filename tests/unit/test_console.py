"""What people read: no number changes on its way out, and progress keeps off pipes."""

import json
import math
from decimal import Decimal
from typing import Any

import pytest

from dataprep.console import Progress, print_json, size, table


@pytest.mark.parametrize(
    ("n_bytes", "wanted"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (100_300_000, "100.3 MB"),
        (2_400_000_000, "2.4 GB"),
        (5_000_000_000_000, "5,000.0 GB"),
    ],
)
def test_sizes_are_said_in_the_largest_unit_that_fits(n_bytes: int, wanted: str) -> None:
    assert size(n_bytes) == wanted


def test_numbers_stand_to_the_right_with_separators_and_text_to_the_left() -> None:
    found = table(["source", "tokens"], [["alpha", 1234567], ["b", None], ["c", 5]])
    assert found.splitlines() == [
        "source     tokens",
        "──────  ─────────",
        "alpha   1,234,567",
        "b               –",
        "c               5",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert table(["a", "bc"], []) == "a  bc\n─  ──"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (9_007_199_254_740_993, "9,007,199,254,740,993"),
        (-1000, "-1,000"),
        (0, "0"),
        (0.0, "0"),
        (False, "False"),
        (0.5, "0.5"),
        (1234567.0, "1.235e+06"),
        (True, "True"),
        (None, "–"),
        (Decimal("1.10"), "1.10"),
        (math.nan, "nan"),
    ],
)
def test_a_cell_says_its_value(value: Any, wanted: str) -> None:
    assert table(["v"], [[value]]).splitlines()[-1].strip() == wanted


def test_json_is_exact_and_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"tokens": 9_007_199_254_740_993, "text": "naïve\n", "none": None}
    print_json(value | {"path": Decimal("1.5")})
    assert json.loads(capsys.readouterr().out) == value | {"path": "1.5"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_has_no_numbers_that_json_does_not_know(value: float, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    print_json([{"loss": value}])
    json.loads(capsys.readouterr().out, parse_constant=refuse)


def test_off_a_terminal_progress_prints_only_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("encode", 100) as progress:
        progress.advance(50)
        progress.say("shard_00000 [done]")
    assert capsys.readouterr() == ("shard_00000 [done]\n", "")


def test_quiet_progress_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("encode", 100, quiet=True) as progress:
        progress.advance(50)
        progress.say("shard_00000")
    assert capsys.readouterr() == ("", "")


def test_progress_does_not_swallow_what_goes_wrong_inside() -> None:
    with pytest.raises(ZeroDivisionError), Progress("encode", 0):
        raise ZeroDivisionError
