"""The command line of a run, as one frozen value.

In:  argv. Out: `TrainConfig`; what was not asked for is None and is chosen by the recipe or the preset.
Holds: --help answers without loading torch; a bad flag is refused before anything is opened.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from dataprep.errors import Parser
from dataprep.quantity import count, name, run_at_step, seed
from train.shapes import PRESETS

# A stage is a label, and what it takes of the model's peak rate where --learning-rate says nothing.
RATE_FACTOR_BY_STAGE = {"pretrain": 1.0, "midtrain": 0.5, "sft": 0.1}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What the user asked for."""

    manifest: Path | None
    recipe: str | None
    run: str | None
    stage: str | None
    parent: tuple[str, int | None] | None
    model: str
    batch_tokens: int | None
    micro_batch: int | None
    tokens: int | None
    learning_rate: float | None
    seed: int
    resume: str
    checkpoint_every: int
    device: str | None
    prompt: str
    print_row_hash: bool
    argv: tuple[str, ...]


def parse_config(argv: list[str]) -> TrainConfig:
    """Parse `argv`; leaves with exit code 2 and three lines where it cannot."""
    flags = _parser().parse_args(argv)
    return TrainConfig(**vars(flags), argv=tuple(argv))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="train/main.py",
        description="Train exactly the rows of a recipe's plan. The same command again goes on where it stopped.",
        epilog="torchrun --standalone --nproc_per_node=2 train/main.py --manifest --model tiny",
    )
    add = parser.add_argument
    add("--manifest", nargs="?", type=Path, metavar="PATH", help="tokens.db (default: manifests/tokens.db)")
    add("--recipe", metavar="NAME", help="recipe to train on (default: the newest)")
    # torchrun on Python 3.11 takes --run for its own --run-path: docs/decisions/0005.
    add("--run-name", "--run", dest="run", type=name, metavar="NAME", help="(default: <recipe>-<model>)")
    factors = ", ".join(f"{stage} x {factor:g}" for stage, factor in RATE_FACTOR_BY_STAGE.items())
    add("--stage", choices=RATE_FACTOR_BY_STAGE, help=f"a label, and a share of the model's rate: {factors}")
    parent_help = "begin with the weights of another run (default step: its newest checkpoint)"
    add("--parent", type=run_at_step, metavar="RUN[@STEP]", help=parent_help)
    add("--model", choices=sorted(PRESETS), default="tiny", help="shape of the model (default: tiny)")
    add("--batch-tokens", type=count, metavar="N", help="tokens per step, over all ranks (default: the model's)")
    add("--micro-batch", type=count, metavar="ROWS", help="rows per forward pass (default: what divides)")
    add("--tokens", type=count, metavar="N", help="stop after at most N tokens: 500000, 20M, 5B (default: the plan)")
    add("--learning-rate", type=_rate, metavar="RATE", help="peak rate (default: the model's, by --stage)")
    add("--seed", type=seed, default=1, help="seed of the first weights and of the sample (default: 1)")
    add("--resume", choices=("auto", "never"), default="auto", help="go on from the newest whole checkpoint")
    add("--checkpoint-every", type=count, default=100, metavar="STEPS", help="(default: 100; always at the end)")
    add("--device", choices=("cpu", "cuda"), help="(default: cuda where there is one)")
    add("--prompt", type=_text, default="The", metavar="TEXT", help="what the final sample goes on from")
    add("--print-row-hash", action="store_true", help="print the hash of the ordered rows; train nothing")
    return parser


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8") from None
    return text


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate between 0 and 1")
    return value
