"""The trainer as one rank, and a real fault that it meets at a named moment: where one is wanted, and only there.

In:  RANK MOMENT TURN SIGNAL, then the trainer's own flags. Out: what train/main.py would do, until the moment comes.
Holds: nothing is pretended: the signal is the kernel's, and what stands still or is gone is the process itself.
       FULL in a signal's place is a disk that takes no more: no file grows past 4 kB from then on.
torchrun --standalone --nproc_per_node=2 tests/crash/faulty.py 1 step 3 KILL --manifest --recipe mix …
"""

import os
import resource
import signal
import sys
from typing import Any

from dataprep import publish
from dataprep.errors import run
from train import keeper, loop, ranks
from train.config import parse_config

# Before the first sum; inside a step: rows are agreed upon, gradients not; before a save; while one is written.
MOMENTS: dict[str, tuple[Any, str]] = {
    "sum": (ranks, "_first_sum"),
    "step": (loop, "accumulate_gradients"),
    "save": (keeper.Keeper, "save"),
    "write": (publish, "_reached"),
}
FULL_BYTES = 4096


def main() -> None:
    """Train, and strike when it is time."""
    rank, moment, turn, fault = sys.argv[1:5]
    if os.environ["RANK"] == rank:
        strike(moment, int(turn), fault)
    run(lambda: loop.train(parse_config(sys.argv[5:])))


def strike(moment: str, turn: int, fault: str) -> None:
    """Have the fault happen to this process when it reaches the moment for the nth time."""
    owner, attribute = MOMENTS[moment]
    honest = getattr(owner, attribute)
    turns_left = turn

    def struck(*arguments: Any, **named: Any) -> Any:
        nonlocal turns_left
        turns_left -= 1
        if turns_left == 0:
            meet(fault)
        return honest(*arguments, **named)

    setattr(owner, attribute, struck)


def meet(fault: str) -> None:
    """The fault itself."""
    if fault == "FULL":
        resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_BYTES, FULL_BYTES))
    else:
        os.kill(os.getpid(), signal.Signals[f"SIG{fault}"])


if __name__ == "__main__":
    main()
