"""Again: one retry rule for everything that may pass when it is tried again.

In:  an attempt that raises MayPass for what may pass. Out: its result, or one DataError at the end.
Holds: waits double and are jittered, so that many machines do not knock at the same moment.
"""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from dataprep.errors import DataError
from dataprep.urls import MayPass

ATTEMPTS = 5
BACKOFF_S = 1.0  # before the second attempt; doubled before each later one, and jittered
_Result = TypeVar("_Result")


def persist(attempt: Callable[[], _Result], what: str, fix: str) -> _Result:
    """Call `attempt` until it succeeds or has raised MayPass ATTEMPTS times."""
    reasons = []
    for n in range(ATTEMPTS):
        if n:
            time.sleep(BACKOFF_S * 2 ** (n - 1) * random.uniform(0.5, 1.5))
        try:
            return attempt()
        except MayPass as problem:
            reasons.append(str(problem))
    raise DataError(what, seen=f"{reasons[-1]} (attempt {ATTEMPTS} of {ATTEMPTS})", wanted="what was listed", fix=fix)
