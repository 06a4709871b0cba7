"""Steps of the trainer on random rows, timed: for gpu_train.py.

In:  a model, an optimizer, a bin of random tokens. Out: seconds per step, whole or by part.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from train.gradients import accumulate_gradients
from train.model import GPT
from train.optim import GRAD_NORM_LIMIT, Optimizer
from train.ranks import Ranks

PARTS = ("data", "forward+backward", "clip", "optimizer")
_MEAN_DOCUMENT = 700


class Rows:
    """Steps of random rows, sliced from a mapped bin as the loader does it."""

    def __init__(self, file: Path, seq_len: int, micro_batch: int, accumulation: int, *, documents: bool) -> None:
        self.tokens = np.memmap(file, dtype=np.uint16, mode="r")
        self.shape, self.documents = (accumulation, micro_batch, seq_len), documents
        self.rng = np.random.default_rng(0)

    def take(self) -> list[np.ndarray]:
        """Inputs, targets, and documents where attention stays inside them."""
        n_tokens = int(np.prod(self.shape))
        first = int(self.rng.integers(1, len(self.tokens) - n_tokens))
        arrays = [self.tokens[start : start + n_tokens].astype(np.int64) for start in (first - 1, first)]
        if self.documents:
            arrays.append(np.cumsum(self.rng.random(n_tokens) < 1 / _MEAN_DOCUMENT))
        return [array.reshape(self.shape) for array in arrays]


class Clock:
    """Seconds by part. Waiting for the GPU at every part's end keeps them apart, and costs what overlap had won."""

    def __init__(self, device: torch.device, *, apart: bool) -> None:
        self.seconds, self.device, self.apart = dict.fromkeys(PARTS, 0.0), device, apart

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time the block."""
        started = time.perf_counter()
        yield
        if self.apart:
            wait_for(self.device)
        self.seconds[name] += time.perf_counter() - started


def train(model: GPT, optimizer: Optimizer, rows: Rows, ranks: Ranks, *, n_steps: int, apart: bool) -> dict[str, float]:
    """Seconds per step, whole and by part."""
    clock, started = Clock(ranks.device, apart=apart), time.perf_counter()
    for _ in range(n_steps):
        with clock.part("data"):
            arrays = rows.take()
        with clock.part("forward+backward"):
            accumulate_gradients(model, arrays, loss_tokens=arrays[1].size, ranks=ranks)
        with clock.part("clip"):
            float(nn.utils.clip_grad_norm_(model.parameters(), GRAD_NORM_LIMIT))
        with clock.part("optimizer"):
            optimizer.step()
            optimizer.zero_grad()
    wait_for(ranks.device)
    parts = {"step": time.perf_counter() - started, **clock.seconds}
    return {name: seconds / n_steps for name, seconds in parts.items()}


def wait_for(device: torch.device) -> None:
    """Until what was asked of the GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
