"""Evaluate: what a run's weights can do, or whether two checkpoints differ by more than noise. A verb.

In:  RUN[@STEP], the newest weights if no step is named; for CORE a bundle (dataprep.fetch --source core-eval).
Out: tables, or exact JSON; the scores among the run's findings, which item was right in runs/<run>/evaluations/.
Holds: what is printed was computed now, or is of the same weights, items and rules; more ranks change the time only.
Run: python -m train.evaluate --run demo
     torchrun --standalone --nproc_per_node=2 -m train.evaluate --run-name demo
     python -m train.evaluate --compare demo@500 demo
"""

import argparse
import importlib
from pathlib import Path

from dataprep import quantity
from dataprep.errors import Parser, run
from train.leaving import leaving_whole

SUITES = ("heldout", "core", "samples")
_BATCH_SIZE = 16


def main(argv: list[str] | None = None) -> int:
    """Evaluate one run, or compare two checkpoints."""
    args = _parse(argv)
    pages = importlib.import_module("train.evaluate_pages")  # which loads torch
    return pages.compare_page(args) if args.compare else pages.evaluate_page(args)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m train.evaluate", description="Judge a run's weights, or compare two checkpoints.")
    which = parser.add_mutually_exclusive_group(required=True)
    named = "whose weights; torchrun takes --run for a flag of its own, and --run-name for ours"
    which.add_argument("--run", "--run-name", type=quantity.run_at_step, metavar="RUN[@STEP]", help=named)
    which.add_argument(
        "--compare",
        type=quantity.run_at_step,
        nargs=2,
        metavar="RUN[@STEP]",
        help="by CORE: the second less the first, with a 95 %% interval; asks what was not asked yet",
    )
    parser.add_argument(
        "--suite", type=_suites, help="of heldout,core,samples (default: all; core where a bundle is held)"
    )
    parser.add_argument("--bundle", type=Path, metavar="PATH", help="a folder or zip (default: the one fetched)")
    parser.add_argument("--prompts", metavar="FILE", help="for samples (default: those the run was trained with)")
    parser.add_argument("--max-per-task", type=quantity.count, metavar="N", help="items of each task (default: all)")
    parser.add_argument(
        "--batch-size", type=quantity.count, default=_BATCH_SIZE, metavar="N", help=f"rows at once ({_BATCH_SIZE})"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(default: cuda where there is one)")
    parser.add_argument("--json", action="store_true", help="exact numbers for machines")
    args = parser.parse_args(argv)
    if args.compare and args.suite:
        parser.error("--suite goes with --run: checkpoints are compared by CORE")
    return args


def _suites(text: str) -> tuple[str, ...]:
    suites = tuple(text.split(","))
    unknown = [suite for suite in suites if suite not in SUITES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(SUITES)}")
    return tuple(suite for suite in SUITES if suite in suites)


if __name__ == "__main__":
    with leaving_whole():
        run(main)
