"""Downloads cut, shortened and flipped at random bytes, once or for ever, by each way to fetch, from a loopback Hub.

In:  a folder, and of how many kills others are made: a tenth as many tries a line. Out: lines of the table.
Holds: what passes must be survived with the origin's bytes; what stays must be reported; a try that takes two
       minutes hangs, and is lost.
Run: python tests/torture/run.py --only hub
"""

import random
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import Loopback, serving, stand_in
from misbehaving import FILES, SHARD, WAYS, bring, patient_for_tests
from torture.table import Line

from dataprep.paths import Paths

_KINDS = ("cut", "short", "flip")
_HANGS_S = 120


def torture(work: Path, *, kills: int, seed: int = 7) -> Iterator[Line]:
    """Every kind of fault by every way, at random bytes."""
    rng = random.Random(seed)
    n_tries = max(2, kills // 10)
    with pytest.MonkeyPatch.context() as patch, serving(patch, FILES) as origin:
        patient_for_tests(patch)
        paths = stand_in(patch, work, "")
        for way in WAYS:
            for kind in _KINDS:
                outcomes = Counter(_try(way, kind, rng, paths, origin) for _ in range(n_tries))
                counts = {name: outcomes[name] for name in ("survived", "reported", "lost")}
                yield Line(fault=f"hub: {kind} at any byte, by {way}", tries=n_tries, **counts)


def _try(way: str, kind: str, rng: random.Random, paths: Paths, origin: Loopback) -> str:
    """One fetch under one fault, from nothing; a fault that must have been survived and was not is lost."""
    shutil.rmtree(paths.raw("texts"), ignore_errors=True)
    fault, stays = f"{kind}@{rng.randrange(len(FILES[SHARD]))}", kind != "cut" and rng.random() < 0.3
    origin.broken = {SHARD: fault} if stays else {}
    origin.faults = {} if stays else {SHARD: [fault]}
    outcomes: list[str] = []
    trying = threading.Thread(target=lambda: outcomes.append(bring(way, paths, origin).outcome), daemon=True)
    trying.start()
    trying.join(_HANGS_S)
    wanted = "reported" if stays else "survived"
    return wanted if outcomes == [wanted] else "lost"
