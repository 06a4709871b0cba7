"""Runs for tests: the trainer called in this process or started in others, and what it wrote, read back."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors.torch import load_file

from dataprep.ledger import Journal, read_journal, steps_with_weights
from train.config import parse_config
from train.loop import train

REPOSITORY = Path(__file__).resolve().parents[1]
# Nothing is asked of the model but where a test asks for it: the suite trains a hundred runs.
FLAGS = (
    *("--manifest", "--recipe", "mix", "--model", "nano", "--device", "cpu", "--batch-tokens", "512"),
    *("--prompts", "none"),
)


def settle(patch: pytest.MonkeyPatch, root: Path) -> None:
    """Let everything that follows happen in `root`, on one thread."""
    patch.setenv("DATAPREP_ROOT", str(root))
    patch.setenv("PYTHONPATH", str(REPOSITORY))
    # A model this small loses more by waiting for a second thread than it wins.
    patch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


def here(*flags: str) -> str:
    """Train in this process, by FLAGS and these, of which the last wins; what was printed."""
    return _train(*FLAGS, *flags)


def by_name(run: str, *flags: str) -> str:
    """Train in this process by the run's name alone, and these flags; what was printed."""
    return _train("--manifest", "--run", run, "--device", "cpu", "--prompts", "none", *flags)


def start(*command: str, ranks: int = 1) -> subprocess.CompletedProcess[str]:
    """Run a script in one process, or in several by torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}", "--"] if ranks > 1 else []
    return subprocess.run(
        [sys.executable, *launcher, *command], env=os.environ, capture_output=True, text=True, timeout=200, check=False
    )


def main(*flags: str, ranks: int = 1) -> subprocess.CompletedProcess[str]:
    """Train by the real command, by FLAGS and these."""
    return start(str(REPOSITORY / "train" / "main.py"), *FLAGS, *flags, ranks=ranks)


def journal_of(root: Path, run: str) -> Journal:
    """What a run did."""
    return read_journal(root / "runs" / run / "journal.jsonl")


def records(root: Path, run: str, kind: str) -> list[dict[str, Any]]:
    """A run's records of one kind."""
    return journal_of(root, run).of_kind(kind)


def kept_steps(root: Path, run: str) -> list[dict[str, Any]]:
    """The records of the steps that are in the weights."""
    return [step for step in steps_with_weights(journal_of(root, run).records) if step["in_weights"]]


def losses(root: Path, run: str) -> list[float]:
    """The loss of each step that is in the weights."""
    return [step["loss"] for step in kept_steps(root, run)]


def weights(root: Path, run: str, step: int | None = None) -> dict[str, torch.Tensor]:
    """The weights of one step, or the newest."""
    step = records(root, run, "checkpoint")[-1]["step"] if step is None else step
    mapped = load_file(root / "runs" / run / "checkpoints" / f"step_{step:08d}" / "model.safetensors")
    return {name: tensor.clone() for name, tensor in mapped.items()}


def raising(error: BaseException) -> Callable[..., NoReturn]:
    """A function that does nothing else, whatever it is given."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise error

    return refuse


def _train(*flags: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        assert train(parse_config(list(flags))) == 0
    return printed.getvalue()
