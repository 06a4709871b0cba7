"""Stopping: signals become a question that the loop asks between steps.

In:  SIGTERM, SIGINT, SIGHUP. Out: `asked` is true once someone wants the run to end.
Holds: the step in progress is finished and saved; a second SIGINT leaves at once; a lost terminal changes nothing,
       but under torchrun it stops the run: its agent ends the ranks, and kills 30 s later what ignores it;
       a rank that is ended because another one is gone gets to say so first.
`with listening() as stop: … if stop.asked: …`
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from dataprep.errors import EXIT_INTERRUPTED

_UNDER_TORCHRUN = "TORCHELASTIC_RUN_ID" in os.environ
# Ctrl-C reaches a rank twice, from the terminal and from torchrun: the echo is no second wish.
_ECHO_SECONDS = 3.0 if _UNDER_TORCHRUN else 0.0
_LAST_WORDS_SECONDS = 2.0


class StopRequest:
    """Whether someone asked, and since when."""

    def __init__(self) -> None:
        self.asked = False
        self._interrupted_at: float | None = None

    def on_terminate(self, _signal: int, _frame: FrameType | None) -> None:
        """SIGTERM, and SIGHUP from torchrun: stop after this step."""
        self.asked = True

    def on_interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        """SIGINT: stop after this step; once more: now."""
        now = time.monotonic()
        if self._interrupted_at is not None and now - self._interrupted_at > _ECHO_SECONDS:
            # No clean-up: it is what hangs when someone presses twice. Temps are swept by the next start.
            os._exit(EXIT_INTERRUPTED)
        self._interrupted_at = self._interrupted_at or now
        self.asked = True


@contextlib.contextmanager
def outliving_the_terminal() -> Iterator[None]:
    """From the first minute on: who goes home while it compiles finds it training in the morning.

    Under torchrun a lost terminal is a wish to end. There SIGTERM most often says that another rank is gone, at the
    moment when this one finds that out by itself.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    if _UNDER_TORCHRUN:
        signal.signal(signal.SIGTERM, _leave_soon)
    else:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_soon(number: int, _frame: FrameType | None) -> None:
    """Leave in a moment: until then the collective that fails for want of the other rank can raise and be reported."""
    leaving = threading.Timer(_LAST_WORDS_SECONDS, os._exit, [128 + number])
    leaving.daemon = True
    leaving.start()


@contextlib.contextmanager
def listening() -> Iterator[StopRequest]:
    """Turn signals into a StopRequest while the block runs; SIGTERM also while what it raised is cleaned up after."""
    stop = StopRequest()
    on_hangup = stop.on_terminate if _UNDER_TORCHRUN else signal.SIG_IGN
    handlers = {signal.SIGTERM: stop.on_terminate, signal.SIGINT: stop.on_interrupt, signal.SIGHUP: on_hangup}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield stop
    except BaseException:
        if _UNDER_TORCHRUN:  # which kills after 30 s: until then a checkpoint in flight may be finished
            before.pop(signal.SIGTERM)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
