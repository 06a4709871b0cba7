"""A kill switch for the real command line: with this folder on PYTHONPATH, and only then, a variable arms it.

In:  QUERN_KILL_AT=synced:3. Out: the process and its group are killed, with SIGKILL, the third time that a
publication reaches `synced`, in whichever process of the command that is.
Holds: the product reads no such variable and has no way to kill itself: `_reached` there does nothing, and what
replaces it is in the tests. A user who inherits the variable from somewhere is not struck by it.
PYTHONPATH=tests/crash/points QUERN_KILL_AT=renamed:2 python -m dataprep.shards …
"""

import os
import signal
from pathlib import Path

if "QUERN_KILL_AT" in os.environ:
    from dataprep import publish

    step_to_die_at, _, turn = os.environ["QUERN_KILL_AT"].partition(":")
    turns_left = int(turn)

    def die(step: str, _path: Path) -> None:
        global turns_left  # noqa: PLW0603 -- a process dies once
        turns_left -= step == step_to_die_at
        if turns_left <= 0:
            os.killpg(0, signal.SIGKILL)

    publish._reached = die
