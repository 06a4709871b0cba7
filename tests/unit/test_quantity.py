"""Quantities people type: exact integers, or a reason why not."""

import argparse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataprep.quantity import count, name, ratio, seed


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1", 1),
        (" 7 ", 7),
        ("5B", 5_000_000_000),
        ("5b", 5_000_000_000),
        ("1.5M", 1_500_000),
        ("0.3K", 300),
        ("1.0", 1),
        ("1,000,000", 1_000_000),
        ("1_000K", 1_000_000),
        ("2T", 2_000_000_000_000),
        ("0.1T", 100_000_000_000),
    ],
)
def test_a_count_is_exact(text: str, wanted: int) -> None:
    assert count(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "+1", "1.5", "0.0003K", "1e9", "5G", "5 B", "5BB", "B", ".5K", "1.", "nan", "٣", "thirty"]
)
def test_what_is_no_positive_whole_number_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        count(text)


@settings(max_examples=200, deadline=None)
@given(number=st.integers(1, 10**15), suffix=st.sampled_from(["", "K", "M", "B", "T"]))
def test_a_count_written_with_separators_and_a_suffix_is_read_back(number: int, suffix: str) -> None:
    factor = 1000 ** ["", "K", "M", "B", "T"].index(suffix)
    assert count(f"{number:,}{suffix}") == number * factor


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=12))
def test_no_text_makes_another_error_than_a_refusal(text: str) -> None:
    for read in (count, ratio, name, seed):
        try:
            read(text)
        except argparse.ArgumentTypeError as refusal:
            assert repr(text) in str(refusal)


def test_the_kelvin_sign_is_no_suffix() -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        count("5\u212a")


def test_a_count_of_thirty_digits_is_not_rounded() -> None:
    assert count("123456789012345678901234567891") == 123456789012345678901234567891


@pytest.mark.parametrize(("text", "wanted"), [("0", 0), ("1", 1), ("9223372036854775807", 2**63 - 1)])
def test_a_seed_is_what_every_generator_takes(text: str, wanted: int) -> None:
    assert seed(text) == wanted


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1_0", "9223372036854775808", "9" * 5_000, "²", "٣", "x"])
def test_what_no_generator_takes_is_no_seed(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        seed(text)


@pytest.mark.parametrize(
    ("text", "wanted"), [("30:70", (30, 70)), ("1", (1,)), ("5:2:1", (5, 2, 1)), ("007:1", (7, 1))]
)
def test_a_ratio_is_integers(text: str, wanted: tuple[int, ...]) -> None:
    assert ratio(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "30:0", "0", "30:", ":70", "30:-70", "0.3:0.7", "thirty", "30/70", "²:1", "3 0:1"]
)
def test_what_is_no_ratio_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        ratio(text)


@pytest.mark.parametrize("text", ["mix", "python-8k", "a.b_c+d-1", "X" * 100])
def test_a_name_is_taken_as_it_is(text: str) -> None:
    assert name(text) == text


@pytest.mark.parametrize(
    "text", ["", ".", "..", ".hidden", "-x", "a/b", "../x", "a b", "a\n", "naïve", "X" * 101, "a\0"]
)
def test_what_could_leave_its_folder_is_no_name(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        name(text)
