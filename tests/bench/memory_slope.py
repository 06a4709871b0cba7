"""Bench: the memory of a run over its steps, saves included. A script; a test runs it as a process of its own.

In:  train/main.py's own flags, in a root that is there. Out: a table of resident memory, and the slope after warm-up;
     open files and threads, in each half.
Holds: memory is read from /proc/self/statm inside the run, after each step's record; the slope is least squares.
Run: OMP_NUM_THREADS=1 python tests/bench/memory_slope.py --manifest --recipe mix --model nano --checkpoint-every 50
"""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataprep.console import table
from train.config import parse_config
from train.journal import Journal
from train.loop import train

WARM_UP = 100  # steps: the first saves, the sizes of every buffer, the allocator's habits


def main() -> None:
    """Train, watching; print the table and the slope."""
    torch.set_num_threads(1)
    rss_by_step: dict[int, int] = {}
    held_by_step: dict[int, tuple[int, int]] = {}
    write = Journal.write

    def watched(self: Journal, kind: str, **fields: Any) -> None:
        write(self, kind, **fields)
        if kind == "step":
            rss_by_step[fields["step"]] = resident_bytes()
            held_by_step[fields["step"]] = (entries("/proc/self/fd"), entries("/proc/self/task"))

    Journal.write = watched
    with contextlib.redirect_stdout(io.StringIO()):
        train(parse_config(sys.argv[1:]))
    shown = [[step, f"{rss / 2**20:.1f}"] for step, rss in rss_by_step.items() if step % 50 == 0]
    print(table(["step", "resident MiB"], shown))
    print(f"slope after step {WARM_UP}: {slope(rss_by_step):+.3f} MiB per 100 steps over {len(rss_by_step)} steps")
    for name, place in (("open files", 0), ("threads", 1)):
        warm, late = halves(held_by_step, place)
        print(f"{name}: at most {warm} in the first half after step {WARM_UP}, {late} in the second")


def entries(folder: str) -> int:
    """How many names a folder holds."""
    return len(list(Path(folder).iterdir()))


def halves(held_by_step: dict[int, tuple[int, int]], place: int) -> tuple[int, int]:
    """The most that was held in the first and in the second half of the steps after warm-up."""
    held = [counts[place] for step, counts in held_by_step.items() if step > WARM_UP]
    return max(held[: len(held) // 2]), max(held[len(held) // 2 :])


def resident_bytes() -> int:
    """What the process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def slope(rss_by_step: dict[int, int]) -> float:
    """MiB per 100 steps, by least squares over the steps after warm-up."""
    steps = np.array([step for step in rss_by_step if step > WARM_UP])
    mebibytes = np.array([rss_by_step[step] for step in steps.tolist()]) / 2**20
    return float(np.polyfit(steps, mebibytes, 1)[0] * 100)


if __name__ == "__main__":
    main()
