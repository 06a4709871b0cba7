"""The trainer as one rank, and a real signal that it sends itself at a named moment: where a fault is wanted.

In:  RANK MOMENT TURN SIGNAL, then the trainer's own flags. Out: what train/main.py would do, until the moment comes.
Holds: nothing is pretended: the signal is the kernel's, and what stands still or is gone is the process itself.
torchrun --standalone --nproc_per_node=2 tests/faulty.py 1 step 3 KILL --manifest --recipe mix …
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from dataprep import publish
from dataprep.errors import run
from train import keeper, loop, ranks
from train.config import parse_config

# Where each moment is: before the first sum, inside a step (rows agreed upon, gradients not), in a save.
MOMENTS: dict[str, tuple[Any, str]] = {
    "sum": (ranks, "_first_sum"),
    "step": (loop, "accumulate_gradients"),
    "save": (keeper.Keeper, "save"),
    "write": (publish, "_reached"),
}


def main() -> None:
    """Train, and strike when it is time."""
    rank, moment, turn, name = sys.argv[1:5]
    if os.environ["RANK"] == rank:
        strike(moment, int(turn), signal.Signals[f"SIG{name}"])
    run(lambda: loop.train(parse_config(sys.argv[5:])))


def strike(moment: str, turn: int, number: signal.Signals) -> None:
    """Have this process send itself the signal when it reaches the moment for the nth time."""
    owner, attribute = MOMENTS[moment]
    honest: Callable[..., Any] = getattr(owner, attribute)
    turns_left = turn

    def struck(*arguments: Any, **named: Any) -> Any:
        nonlocal turns_left
        turns_left -= 1
        if turns_left == 0:
            os.kill(os.getpid(), number)
        return honest(*arguments, **named)

    setattr(owner, attribute, struck)


if __name__ == "__main__":
    main()
