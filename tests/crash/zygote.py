"""Train runs to their ends through random SIGKILLs: each attempt is a forked process, or a group of them.

In:  a JSON object: flags, kills by run, seed, world_size. Out: a line of JSON per attempt: its end, where it was hit.
Holds: this process has loaded torch and computed nothing, so a fork begins as a fresh interpreter would, 3 s sooner;
       the children are real processes that write real files, and nothing but the page they share outlives them.
python tests/crash/zygote.py '{"flags": ["--manifest", …], "kills": {"mine": 20}, "seed": 1, "world_size": 1}'
"""

import json
import mmap
import os
import random
import signal
import socket
import struct
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from dataprep import publish
from dataprep.errors import run
from train import journal, loop, saving
from train.config import parse_config

# What the first rank says of itself, in shared memory: steps of this attempt, and where its save is.
PAGE = struct.Struct("=qq")
MOMENTS = ("no save", "copied", "opened", "written", "synced", "renamed", "published", "old ones go")


def main() -> int:
    asked = json.loads(sys.argv[1])
    page = mmap.mmap(-1, PAGE.size)
    watch(page)
    rng = random.Random(asked["seed"])
    for name, n_kills in asked["kills"].items():
        for kill in range(n_kills + 1):
            page[:] = PAGE.pack(-1, 0)
            children = start([*asked["flags"], "--run-name", name], asked["world_size"])
            if kill < n_kills:
                strike(children, page, rng)
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
            n_steps, moment = PAGE.unpack(page[:])
            print(json.dumps({"run": name, "codes": codes, "steps": n_steps, "save": MOMENTS[moment]}), flush=True)
    return 0


def watch(page: mmap.mmap) -> None:
    """Have the trainer, in every fork, tell the page where it is."""
    write, reached, begin, remove = journal.Journal.write, publish._reached, saving.Saver.begin, saving.remove_old

    def note(moment: str) -> None:
        if os.environ["RANK"] == "0":
            struct.pack_into("=q", page, 8, MOMENTS.index(moment))

    def noted_write(self: journal.Journal, kind: str, **fields: Any) -> None:
        write(self, kind, **fields)
        if kind in ("start", "step") and os.environ["RANK"] == "0":
            struct.pack_into("=q", page, 0, PAGE.unpack(page[:])[0] + 1)

    def noted_reached(step: str, path: Path) -> None:
        note(step)
        reached(step, path)

    def noted_begin(*arguments: Any) -> None:
        note("copied")
        begin(*arguments)

    def noted_remove(*arguments: Any, **named: Any) -> list[str]:
        note("old ones go")
        try:
            return remove(*arguments, **named)
        finally:
            note("no save")

    journal.Journal.write, publish._reached = noted_write, noted_reached
    saving.Saver.begin, saving.remove_old = noted_begin, noted_remove


def start(flags: list[str], world_size: int) -> list[int]:
    """Fork the ranks of one attempt into a process group of their own."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(world_size)}
    children: list[int] = []
    for rank in range(world_size):
        child = os.fork()
        if child == 0:
            os.setpgid(0, children[0] if children else 0)
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            train(flags)
        children.append(child)
        os.setpgid(child, children[0])  # both sides do it: no kill finds half a group
    return children


def train(flags: list[str]) -> None:
    """What train/main.py does, and no way back into the caller."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        run(lambda: loop.train(parse_config(flags)))
    except SystemExit as left:
        code = left.code
    except BaseException:  # noqa: BLE001 -- a fork must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(code)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def strike(children: list[int], page: mmap.mmap, rng: random.Random) -> None:
    """SIGKILL the whole group: after a random number of steps (-1: before it began) and then a random moment.

    Counted in steps and not in seconds alone, so that a slow machine gets as far as a fast one.
    """
    wanted, jitter = rng.randint(-1, 4), rng.random() * 0.03
    deadline = time.monotonic() + 60
    while PAGE.unpack(page[:])[0] < wanted and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(jitter)
    os.killpg(children[0], signal.SIGKILL)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
