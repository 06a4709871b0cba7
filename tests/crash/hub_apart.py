"""A loopback hub in a process of its own, beside commands that are killed: it must not die with them.

In:  nothing. Out: its address on the first line of stdout. Holds: it ends when its stdin does, so with its starter.
python tests/crash/hub_apart.py
"""

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from loopback import Loopback, shard_bytes

ENTRY = '[texts]\nkind = "hub"\nrepo = "someone/texts"\nfiles = "data/*"\ntext = "text"\nholdout = ["shard_00002"]\n'


def start() -> tuple[subprocess.Popen[str], str]:
    """The server's process, and its address."""
    command = [sys.executable, str(Path(__file__).resolve())]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    return server, server.stdout.readline().strip()


def main() -> None:
    """Serve three shards until stdin ends."""
    with Loopback({f"data/shard_{i:05d}.parquet": shard_bytes(i, 500) for i in range(3)}) as hub:
        print(hub.endpoint, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
