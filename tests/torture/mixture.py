"""Mixture: two small sources, encoded and packed by the real verbs, for groups that train.

In:  a folder, how many documents a shard has. Out: a root with the recipe `mix`: alpha:beta in rows of 64 targets.
Holds: what the verbs print goes to stderr: stdout is the table's.
packed(work / "root", documents=(120, 160))
"""

import contextlib
import sys
from pathlib import Path

from conftest import byte_ranks, run_in, sentences, write_source

from dataprep import pack, shards
from dataprep.paths import Paths
from dataprep.vocab_store import publish_vocab


def packed(root: Path, *, documents: tuple[int, int]) -> Path:
    """Make it; a shard of alpha has so many documents, one of beta so many."""
    write_source(root, "alpha", [sentences(f"alpha{i}", documents[0]) for i in range(4)])
    write_source(root, "beta", [sentences(f"beta{i}", documents[1]) for i in range(2)])
    publish_vocab(Paths(root=root), "tiny-bpe", byte_ranks(), origin="made by the tests")
    with contextlib.redirect_stdout(sys.stderr):
        for source, n in (("alpha", "3"), ("beta", "1")):
            asked = ["--source", source, "--n", n, "--catalogue", str(root / "my.toml"), "--tokenizer", "tiny-bpe"]
            assert run_in(root, shards.main, *asked) == 0
    pack_mix(root, "70:30")
    return root


def pack_mix(root: Path, mix: str) -> None:
    """The recipe `mix`, in these shares."""
    asked = ["--mix", mix, "--sources", "alpha,beta", "--name", "mix", "--seq-len", "64", "--seed", "1"]
    with contextlib.redirect_stdout(sys.stderr):
        assert run_in(root, pack.main, *asked) == 0
