"""What the load bench's contenders have in common: arguments, clocks, a few batches kept for the judge, the reply.

In:  `open_stream()`, an iterator of (inputs, targets), int64[16, 2048] each; `resume(fraction)` where a peer can.
Out: the reply on stdout; `batches.npz` in the work folder.
Holds: imports are never timed; the rate is of batches after the first ten, so processes that a peer starts have
       started; opening, starting them and the first batch have a figure of their own.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

SEQ_LEN, BATCH_ROWS = 2_048, 16
BATCH_TOKENS = SEQ_LEN * BATCH_ROWS
END_ID = 50_256
RESUME_AT = 0.8
_WARM = 10
Stream = Iterator[tuple[Any, Any]]


def arguments() -> argparse.Namespace:
    """What every contender is given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True, help="bins and plans; tokens.bin is all bins end to end")
    parser.add_argument("--batches", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--recipe", default="concat")
    parser.add_argument("--ahead", action="store_true", help="ours: through the trainer's prefetch thread")
    parser.add_argument("--prepare", action="store_true", help="only make the peer's own format, untimed")
    return parser.parse_args()


def prepared(args: argparse.Namespace, name: str, make: Callable[[Path], None]) -> Path:
    """The peer's own copy of the tokens, made once. With --prepare, nothing else happens."""
    folder = args.root / "peers" / name
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        make(folder)
        (folder / "done").touch()
    if args.prepare:
        reply({"seconds": 1.0, "amount": 1})
        raise SystemExit
    return folder


def tokens(root: Path) -> np.ndarray:
    """All bins end to end as a memory map, uint16: web, then chat; the supply has the mixture's ratio."""
    return np.memmap(root / "peers" / "tokens.bin", dtype="<u2", mode="r")


def documents(root: Path) -> np.ndarray:
    """Ends of the documents in `tokens`, int64."""
    return np.flatnonzero(tokens(root) == END_ID) + 1


def measure(
    open_stream: Callable[[], Stream],
    args: argparse.Namespace,
    packages: tuple[str, ...],
    resume: Callable[[float], Stream] | None = None,
) -> None:
    """Time the stream, keep two of its batches, reply."""
    began = time.perf_counter()
    stream = open_stream()
    first = next(stream)
    first_s = time.perf_counter() - began
    kept = [_copy(first)]  # a stream may write its next batch where this one is
    kept += [_copy(batch) for batch in islice(stream, _WARM)][:1]

    began, n_batches = time.perf_counter(), 0
    for _inputs, _targets in islice(stream, args.batches):
        n_batches += 1
    seconds = time.perf_counter() - began

    answer: dict[str, Any] = {"seconds": seconds, "amount": n_batches * BATCH_TOKENS, "first_ms": first_s * 1e3}
    if resume:
        began = time.perf_counter()
        later = next(resume(RESUME_AT))
        answer["resume_ms"] = (time.perf_counter() - began) * 1e3
        kept.append(_copy(later))
    keep(args.work, kept)
    reply(answer | {"versions": {package: version(package) for package in packages}})


def split(rows: Any) -> tuple[Any, Any]:
    """Rows of 2,049 as inputs and targets, each an array of its own: a loss and a GPU want them contiguous."""
    if isinstance(rows, np.ndarray):
        return np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def _copy(batch: tuple[Any, Any]) -> tuple[np.ndarray, np.ndarray]:
    inputs, targets = batch
    return np.array(inputs), np.array(targets)


def keep(work: Path, batches: list[tuple[Any, Any]]) -> None:
    """Leave batches for the judge."""
    names = ("inputs", "targets")
    np.savez(
        work / "batches.npz", **{name: np.stack([np.asarray(b[i]) for b in batches]) for i, name in enumerate(names)}
    )


def reply(answer: dict[str, Any]) -> None:
    """The last line on stdout."""
    print(json.dumps(answer), flush=True)
