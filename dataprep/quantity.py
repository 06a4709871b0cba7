"""Quantities people type: token counts such as 5B, and ratios such as 30:70. Integers only.

In:  text from a command line. Out: exact integers. Raises argparse.ArgumentTypeError with the reason.
Holds: nothing is rounded: 1.5M is 1,500,000, and 1.0005K is refused because it is no whole number.
    >>> count("5B"), count("1.5M"), ratio("30:70")
    (5000000000, 1500000, (30, 70))
"""

import argparse
import math
import re
from fractions import Fraction

_SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_COUNT = re.compile(r"([0-9][0-9_,]*(?:\.[0-9]+)?)([KMBT]?)", re.IGNORECASE | re.ASCII)
_MAX_WEIGHT = 1 << 31
_LONGEST_NUMBER = 100  # characters; Python itself reads no more than 4,300 digits
_LAST_SEED = 2**63 - 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def count(text: str) -> int:
    """A positive whole number, with an optional suffix K, M, B or T (10³, 10⁶, 10⁹, 10¹²)."""
    match = _COUNT.fullmatch(text.strip())
    if not match or len(text) > _LONGEST_NUMBER:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a count such as 5000000, 5M or 1.5B")
    value = Fraction(re.sub("[_,]", "", match[1])) * _SUFFIXES[match[2].upper()]
    if value.denominator != 1 or value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(value)


def ratio(text: str) -> tuple[int, ...]:
    """Positive integers joined by colons; one integer alone means one source."""
    parts = text.split(":")
    if not all(part.isascii() and part.isdigit() and len(part) <= _LONGEST_NUMBER for part in parts):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not integers joined by ':', such as 30:70")
    if any(int(part) == 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} gives a source nothing; leave it out of --sources instead")
    if any(int(part) >= _MAX_WEIGHT for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} has a share of {_MAX_WEIGHT:,} or more; give the ratio in smaller numbers"
        )
    return tuple(int(part) for part in parts)


def run_at_step(text: str) -> tuple[str, int | None]:
    """RUN or RUN@STEP, which name the newest weights of a run or those of one step."""
    run, at, step = text.partition("@")
    if at and not (step.isascii() and step.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not RUN or RUN@STEP, such as base or base@5000")
    return name(run), int(step) if at else None


def at_step(run: str, step: int | None) -> str:
    """RUN or RUN@STEP, as it is typed."""
    return run if step is None else f"{run}@{step}"


def positive(text: str) -> float:
    """A number above 0: dollars, hours, minutes."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, such as 90 or 1.5")
    return value


def rate(text: str) -> float:
    """A number between 0 and 1."""
    value = positive(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate between 0 and 1")
    return value


def unicode_text(text: str) -> str:
    """Text that can be encoded: no lone surrogates, as a terminal of another encoding makes them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8") from None
    return text


def seed(text: str) -> int:
    """A whole number from 0 to 2⁶³ - 1: what every random generator here takes."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_LAST_SEED)) and int(text) <= _LAST_SEED):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {_LAST_SEED}")
    return int(text)


def name(text: str) -> str:
    """A name that is also a file name: letters, digits, '.', '_', '+' and '-'."""
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of letters, digits, '.', '_', '+' and '-'")
    return text
