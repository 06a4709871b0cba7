"""The command line of a run, as one frozen value.

In:  argv. Out: `TrainConfig`; what was not asked for is None and is chosen by the run so far, the stage or the preset.
Holds: --help answers without loading torch; a bad flag is refused before anything is opened.
"""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dataprep.errors import Parser
from dataprep.quantity import count, name, positive, rate, run_at_step, seed, unicode_text
from dataprep.sampled import LOOKS
from dataprep.shapes import PRESETS
from train.stages import HEADS, OPTIMIZERS, SCHEDULES, STAGES, TRACKERS


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What the user asked for."""

    # what is trained
    manifest: Path | None
    recipe: str | None
    run: str | None
    stage: str | None
    parent: tuple[str, int | None] | None
    keep_optimizer: bool
    model: str | None
    head: str | None
    seed: int | None
    resume: str
    # how
    batch_tokens: int | None
    micro_batch: int | None
    optimizer: str | None
    schedule: str | None
    learning_rate: float | None
    # how far, and for how much
    tokens: int | None
    max_usd: float | None
    max_hours: float | None
    usd_per_hour: float | None
    # what is kept
    checkpoint_every: int | None
    checkpoint_minutes: float | None
    keep: int | None
    keep_every: int | None
    # what is watched
    validate_every: int | None
    validate_rows: int | None
    prompts: str | None
    sample_every: int | None
    core: str | None
    core_every: int | None
    core_max_per_task: int | None
    prompt: str | None
    track: str | None
    # where
    device: str | None
    rank_timeout: float
    compile: bool
    print_row_hash: bool
    verify: str
    argv: tuple[str, ...]


def parse_config(argv: list[str]) -> TrainConfig:
    """Parse `argv`; leaves with exit code 2 and three lines where it cannot."""
    flags = _parser().parse_args(argv)
    return TrainConfig(**vars(flags), argv=tuple(argv))


def file_or_none(text: str) -> str:
    """A path that means the same wherever the run goes on; or none."""
    return text if text == "none" else str(Path(unicode_text(text)).resolve())


def command_again(argv: Sequence[str], *, world_size: int) -> str:
    """What goes on with a run that `argv` began."""
    # Without the "--", torchrun on Python 3.11 takes our --run for an abbreviation of its own --run-path.
    launcher = f"torchrun --standalone --nproc_per_node={world_size} --" if world_size > 1 else "python"
    return f"{launcher} train/main.py {shlex.join(argv)}{' --resume auto' if 'never' in argv else ''}"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python train/main.py",
        description="Train exactly the rows of a recipe's plan. The same command again goes on where it stopped;"
        " --run-name alone does too: what a run was begun with is remembered.",
        epilog="torchrun --standalone --nproc_per_node=2 train/main.py --manifest --model tiny",
    )
    _add_what(parser.add_argument_group("what is trained"))
    _add_how(parser.add_argument_group("how"))
    _add_limits(parser.add_argument_group("how far, and for how much"))
    _add_kept(parser.add_argument_group("what is kept"))
    _add_watched(parser.add_argument_group("what is watched"))
    return parser


def _add_what(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--manifest", nargs="?", type=Path, metavar="PATH", help="tokens.db (default: manifests/tokens.db)")
    add("--recipe", metavar="NAME", help="recipe to train on (default: the newest)")
    # torchrun on Python 3.11 takes --run for its own --run-path: docs/decisions/0005.
    add("--run-name", "--run", dest="run", type=name, metavar="NAME", help="(default: <recipe>-<model>)")
    add("--stage", choices=STAGES, help="a label, and defaults for rate, schedule and warm-up (default: pretrain)")
    parent_help = "begin with the weights of another run (default step: its newest checkpoint)"
    add("--parent", type=run_at_step, metavar="RUN[@STEP]", help=parent_help)
    add("--keep-optimizer", action="store_true", help="begin with the parent's optimizer as well")
    add("--model", choices=sorted(PRESETS), help="shape of the model (default: the parent's, or tiny)")
    add("--head", choices=HEADS, help="tied: the embedding is the output head too (default); untied: two matrices")
    add("--seed", type=seed, help="seed of the first weights and of the sample (default: 1)")
    add("--resume", choices=("auto", "never"), default="auto", help="go on from the newest whole checkpoint")
    verify_help = "how closely bins are looked at before the first step; full reads every byte (default: sampled)"
    add("--verify", choices=LOOKS, default="sampled", help=verify_help)
    add("--print-row-hash", action="store_true", help="print the hash of the ordered rows; train nothing")


def _add_how(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--batch-tokens", type=count, metavar="N", help="tokens per step, over all ranks (default: the model's)")
    add("--micro-batch", type=count, metavar="ROWS", help="rows per forward pass (default: what divides)")
    add("--optimizer", choices=OPTIMIZERS, help="(default: adamw); muon: for hidden matrices, adamw for the rest")
    add("--schedule", choices=SCHEDULES, help="how the rate falls, as a function of tokens (default: by --stage)")
    add("--learning-rate", type=rate, metavar="RATE", help="peak rate (default: the model's, by --stage)")
    add("--device", choices=("cpu", "cuda"), help="(default: cuda where there is one)")
    timeout_help = "how long ranks wait for one that is silent (default: 10)"
    add("--rank-timeout", type=positive, default=10.0, metavar="MINUTES", help=timeout_help)
    compile_help = "torch.compile on a GPU (default: yes; eager with a note where it fails)"
    add("--compile", action=argparse.BooleanOptionalAction, default=True, help=compile_help)


def _add_limits(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--tokens", type=count, metavar="N", help="stop after at most N tokens: 500000, 20M, 5B (default: the plan)")
    add("--max-usd", type=positive, metavar="USD", help="stop, with a checkpoint, before this run has cost more")
    add("--max-hours", type=positive, metavar="HOURS", help="stop, with a checkpoint, after this long")
    add("--usd-per-hour", type=positive, metavar="USD", help="of one GPU (default: the table of dataprep.budget)")


def _add_kept(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--checkpoint-every", type=count, metavar="STEPS", help="(default: 100; always at the end)")
    add("--checkpoint-minutes", type=positive, metavar="MINUTES", help="and after this long without one")
    add("--keep", type=count, metavar="K", help="the newest K checkpoints stay (default: 2)")
    add("--keep-every", type=count, metavar="STEPS", help="and those of every STEPS steps, for good")


def _add_watched(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--validate-every", type=count, metavar="STEPS", help="held-out loss (default: 250; always at the end)")
    add("--validate-rows", type=count, metavar="ROWS", help="held-out rows per source (default: 64)")
    prompts_help = "beginnings and facts to ask (default: train/prompts.toml); none: ask nothing"
    add("--prompts", type=file_or_none, metavar="FILE", help=prompts_help)
    add("--sample-every", type=count, metavar="STEPS", help="ask them (default: 1000; always at the end)")
    add(
        "--core", type=file_or_none, metavar="BUNDLE", help="a folder or zip of tasks: judge by CORE too; none: no more"
    )
    add("--core-every", type=count, metavar="STEPS", help="(default: 2000; always at the end)")
    add("--core-max-per-task", type=count, metavar="N", help="items of each task (default: 500)")
    add("--prompt", type=unicode_text, metavar="TEXT", help="what the final sample goes on from (default: The)")
    add("--track", choices=TRACKERS, help="also log to trackio or wandb, offline first (default: none)")
