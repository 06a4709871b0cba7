"""Waiting with an end: a block that does not come back in time ends the process, with three lines and exit code 5.

In:  a limit in seconds and the problem to tell. Out: nothing, or the end of the process.
Holds: a collective that hangs cannot be interrupted by its own thread, only watched by another: hence `os._exit`,
       which waits for nobody. Where nobody reads stderr any more the process ends all the same.
with limited(20.0, problem): dist.all_reduce(ones)
"""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

from dataprep.errors import EnvironmentProblem


@contextlib.contextmanager
def limited(limit_s: float, problem: EnvironmentProblem) -> Iterator[None]:
    """Run the block; after `limit_s` seconds tell the problem and leave."""
    watchdog = threading.Timer(limit_s, leave_at_once, [problem])
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def leave_at_once(problem: EnvironmentProblem) -> NoReturn:
    """Tell the problem and end the process, without the clean-up that would wait for peers."""
    try:
        print(problem, file=sys.stderr, flush=True)
    finally:
        os._exit(problem.exit_code)
