"""Again: one retry rule for everything that may pass when it is tried again.

In:  an attempt that raises MayPass for what may pass. Out: its result, or one DataError at the end.
Holds: waits double and are jittered, so that many machines do not knock at the same moment; a server that
names a longer wait is obeyed, one that names a far longer one is not tried again.
"""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from dataprep.errors import DataError
from dataprep.patience import MayPass

ATTEMPTS = 5
BACKOFF_S = 1.0  # before the second attempt; doubled before each later one, and jittered
LONGEST_WAIT_S = 600  # somebody who asks for more is not waited for: the reader decides
_Result = TypeVar("_Result")


def persist(attempt: Callable[[], _Result], what: str, fix: str) -> _Result:
    """Call `attempt` until it succeeds, has raised MayPass ATTEMPTS times, or is told to come back much later."""
    n = 0
    while True:
        n += 1
        try:
            return attempt()
        except MayPass as problem:
            if n == ATTEMPTS or problem.wait_s > LONGEST_WAIT_S:
                seen = f"{problem} (attempt {n} of {ATTEMPTS})"
                raise DataError(what, seen=seen, wanted="what was listed", fix=fix) from None
            wait_s = problem.wait_s
        time.sleep(max(wait_s, BACKOFF_S * 2 ** (n - 1) * random.uniform(0.5, 1.5)))
