"""Bench: how long training waits for a checkpoint, and how long it takes to write. A script, not a test.

In:  a preset and a folder. Out: a table: how long training waits, and would if it waited for the writing.
Holds: the model and AdamW's moments are real and of the preset's size; "longest pause" is of a thread that only ticks
       while the writer writes, so that a writer that held Python's lock would show.
Run: OMP_NUM_THREADS=1 python tests/bench/checkpoint_stall.py --model 124m --saves 4
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import torch

from dataprep.console import table
from dataprep.shapes import PRESETS
from train.checkpoint import Cursor
from train.model import GPT
from train.optim import make_optimizer
from train.saving import Saver


def main() -> None:
    """Build, save, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted(PRESETS), default="124m")
    parser.add_argument("--saves", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure (default: a temp folder)")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = GPT(PRESETS[args.model].shape, vocab_size=50_268, seq_len=64).to(device)
    optimizer = make_optimizer(model)
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 1e-3)
    optimizer.step()
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        lines = measure(model, optimizer, folder, args.saves)
    finally:
        shutil.rmtree(folder)
    n_parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{args.model}: {n_parameters:,} parameters, {12 * n_parameters / 2**30:.2f} GiB a checkpoint, on {device}\n")
    print(table(["save", "training waits s", "synchronous: waits s", "longest pause s"], lines))


def measure(model: GPT, optimizer: torch.optim.Optimizer, folder: Path, n_saves: int) -> list[list[str | int]]:
    """A line per save; the first makes the host copy that the others use again."""
    saver = Saver(folder, {"bench": True}, keep=1, keep_every=None)
    lines: list[list[str | int]] = []
    for save in range(1, n_saves + 1):
        saver.begin(Cursor(step=save, rows_done=save), model, optimizer)
        longest, saved = 0.0, None
        while saved is None:
            before = time.perf_counter()
            time.sleep(0.001)
            longest = max(longest, time.perf_counter() - before)
            saved = saver.published()
        lines.append([save, *(f"{s:.3f}" for s in (saved.stall_seconds, saved.write_seconds, longest))])
        saver.remove_old()
        saver.removed(wait=True)
    saver.close()
    return lines


if __name__ == "__main__":
    main()
