"""Sampling flags: the same words for every verb that lets a model speak.

In:  a parser; then what was typed. Out: a `Sampling`. Holds: no torch is loaded, the defaults are `Sampling`'s own.
add_sampling(parser); read_sampling(parser.parse_args(["--temperature", "0"])).temperature == 0.0
"""

import argparse

from dataprep import quantity
from train.sampling import Sampling

_DEFAULT = Sampling()


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Flags for each of `Sampling`'s fields."""
    add = parser.add_argument_group("how words are chosen").add_argument
    add(
        "--temperature",
        type=float,
        default=_DEFAULT.temperature,
        metavar="X",
        help="0 is greedy (default: %(default)s)",
    )
    add("--top-k", type=int, default=_DEFAULT.top_k, metavar="N", help="0 switches it off (default: %(default)s)")
    add("--top-p", type=float, metavar="X", help="the likeliest that reach this share (default: off)")
    add("--min-p", type=float, metavar="X", help="at least this many times the likeliest (default: off)")
    add(
        "--repetition-penalty", type=float, default=_DEFAULT.repetition_penalty, metavar="X", help="1 is none (default)"
    )
    add("--seed", type=quantity.seed, default=_DEFAULT.seed, metavar="N", help="(default: %(default)s)")
    add("--max-tokens", type=quantity.count, default=_DEFAULT.max_tokens, metavar="N", help="(default: %(default)s)")


def read_sampling(args: argparse.Namespace) -> Sampling:
    """What was asked for. Raises UsageError for what cannot be."""
    return Sampling(
        temperature=args.temperature,
        top_k=args.top_k or None,
        top_p=args.top_p,
        min_p=args.min_p,
        repetition_penalty=args.repetition_penalty,
        seed=args.seed,
        max_tokens=args.max_tokens,
    )
