"""Run a verb and kill its process, with SIGKILL, the nth time a publication reaches a named step.

python tests/crash/kill_at.py synced 2 dataprep.shards --source notes --n 2 …
"""

import importlib
import os
import signal
import sys
from pathlib import Path

from dataprep import publish


def main() -> int:
    step_to_die_at, turns_left, module = sys.argv[1], int(sys.argv[2]), sys.argv[3]

    def die(step: str, _path: Path) -> None:
        nonlocal turns_left
        if step == step_to_die_at:
            turns_left -= 1
            if turns_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    publish._reached = die
    return importlib.import_module(module).main(sys.argv[4:])


if __name__ == "__main__":
    sys.exit(main())
