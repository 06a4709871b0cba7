"""Leaving: threads of torch that still work while a program ends do not change its exit code.

In:  a program whose threads never stop, as those of DDP's process group do not where a machine is slow to end them.
Holds: its exit code is the one it earned, all that it printed arrives, and its `atexit` handlers run. Without
       `leaving_whole` C++ aborts the same program ("terminate called without an active exception"), as it did now and
       then with a rank that had finished its run.
"""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = str(Path(__file__).resolve().parents[2])
PROGRAM = """
import contextlib, sys, threading, time
from dataprep.errors import DataError, run
from train.leaving import leaving_whole

def spin(torch):
    numbers = torch.ones(8, 8)
    while True:
        numbers @ numbers

def main():
    import atexit, torch
    atexit.register(print, "tidied up")
    for _ in range(3):
        threading.Thread(target=spin, args=[torch], daemon=True).start()
    time.sleep(0.3)
    print("done", flush=False)
    {ending}

with {guard}:
    run(main)
"""
WHOLE, PLAIN = "leaving_whole()", "contextlib.nullcontext()"


def ended(ending: str, *, guard: str = WHOLE) -> subprocess.CompletedProcess[str]:
    """The program, run to its end."""
    code = PROGRAM.format(ending=ending, guard=guard)
    return subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("return 0", 0, ""),
        ("raise SystemExit", 0, ""),
        ("raise SystemExit('no rows')", 1, "no rows"),
        ("raise DataError('no rows', seen=0, wanted=1, fix='pack')", 3, "error: no rows"),
        ("raise KeyboardInterrupt", 130, "stopped"),
        ("raise ZeroDivisionError", 1, "ZeroDivisionError"),
    ],
)
def test_a_program_whose_threads_still_work_ends_as_it_earned(ending: str, code: int, said: str) -> None:
    done = ended(ending)
    assert done.returncode == code, done.stderr
    assert done.stdout == "done\ntidied up\n"
    assert said in done.stderr
    assert "terminate" not in done.stderr


def test_without_it_the_same_program_is_aborted() -> None:
    """Should this fail, torch or Python have mended it: then train/leaving.py can go."""
    assert "terminate called without an active exception" in ended("return 0", guard=PLAIN).stderr
