"""Budget flags: the command line of `dataprep.budget`.

In:  argv. Out: the arguments, as exact numbers; None for what was not asked for.
Holds: one model and one thing that decides the tokens are given; numbers are such as arithmetic can follow.
Run: python -m dataprep.budget --help
"""

import argparse
from fractions import Fraction
from pathlib import Path

from dataprep import quantity
from dataprep.errors import Parser
from dataprep.estimate import DEFAULT_MFU
from dataprep.gpus import gpus
from dataprep.shapes import PRESETS

_MOST = 10**12  # parameters, tokens per step, …


def parse_asked(argv: list[str] | None) -> argparse.Namespace:
    """Parse `argv`; leaves with exit code 2 and three lines where it cannot."""
    parser = Parser(prog="python -m dataprep.budget", description="What a run takes, before any GPU is rented.")
    _add_asked(parser)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", choices=sorted(PRESETS), help="a preset, counted from its shape")
    model.add_argument("--params", type=_count, help="a size alone, such as 500M")
    add = parser.add_argument
    add("--head", choices=("tied", "untied"), default="tied", help="whether the embedding is the output head too")
    add("--gpus", type=gpus, default="1xH100", help="such as 4xH100, or cpu (default 1xH100)")
    add("--mfu", type=quantity.rate, default=DEFAULT_MFU, help=f"share of the peak, by 6N (default {DEFAULT_MFU})")
    add("--tokens-per-s", type=_count, help="a measured speed of all GPUs together, instead of --mfu")
    add("--usd-per-hour", type=quantity.positive, help="of one GPU (default: the dated table)")
    add("--batch-tokens", type=_count, help="tokens per step (default: the model's)")
    add("--micro-batch", type=_count, help="rows per forward pass (default: what divides)")
    add("--seq-len", type=_count, help="targets in a row (default 2048, or the recipe's)")
    add("--source", type=quantity.name, help="whose shards (default: all that are held, or fineweb-edu)")
    add("--tokenizer", type=quantity.name, help="(default: the only one with bins, or gpt2)")
    add("--catalogue", type=Path, metavar="FILE", help="more sources, as TOML")
    add("--keep", type=_count, default=2, help="checkpoints kept (default 2)")
    add("--json", action="store_true", help="exact numbers for machines")
    return parser.parse_args(argv)


def _add_asked(parser: argparse.ArgumentParser) -> None:
    """What decides the tokens: one of these."""
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--ratio", type=_number, help="tokens per parameter, such as 20")
    asked.add_argument("--flops", type=_number, help="FLOPs by 6N, such as 1e19")
    asked.add_argument("--tokens", type=quantity.count, help="such as 10B")
    asked.add_argument("--steps", type=quantity.count, help="full steps")
    asked.add_argument("--usd", type=quantity.positive, help="dollars to spend")
    asked.add_argument("--hours", type=quantity.positive, help="hours to train")
    asked.add_argument("--recipe", type=quantity.name, help="a packed recipe: its rows, epochs and examples")


def _count(text: str) -> int:
    """A count that arithmetic in floats can follow."""
    value = quantity.count(text)
    if value > _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {_MOST:,}")
    return value


def _number(text: str) -> Fraction:
    """A number above 0, exactly as typed: 20, 1.5, 1e19."""
    quantity.positive(text)
    try:
        return Fraction(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 20 or 1e19") from None
