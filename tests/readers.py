"""Fifty readers of tokens.db at once, each a process of its own, while somebody rebuilds it.

In:  the database, seconds, how many, what every answer must be. Out: "READS" and how many there were; 1 on a wrong one.
Holds: a reader opens the published file as any program would, read-only, and never sees half of a rebuild.
"""

import os
import sys
import time

import duckdb

QUESTION = "SELECT count(*), sum(tokens)::BIGINT FROM shards"


def main() -> int:
    """Fork the readers (duckdb is loaded once), and wait for them."""
    database, seconds, n_readers, wanted = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    readers = []
    for _ in range(n_readers):
        inner, outer = os.pipe()
        if (process := os.fork()) == 0:
            os.write(outer, str(read(database, time.monotonic() + seconds, wanted)).encode())
            os._exit(0)
        os.close(outer)
        readers.append((process, inner))
    answers = [(os.read(inner, 20), os.waitpid(process, 0)[1]) for process, inner in readers]
    if any(status or not text or int(text) < 1 for text, status in answers):
        return 1
    print("READS", sum(int(text) for text, _ in answers))
    return 0


def read(database: str, until: float, wanted: str) -> int:
    """How often it was asked; 0 after a wrong answer."""
    n_reads = 0
    while n_reads == 0 or time.monotonic() < until:
        with duckdb.connect(database, read_only=True, config={"threads": 1}) as connection:
            answer = connection.execute(QUESTION).fetchone()
        if str(answer) != wanted:
            print("wrong:", answer, file=sys.stderr)
            return 0
        n_reads += 1
    return n_reads


if __name__ == "__main__":
    sys.exit(main())
