"""Shared roots: two small sources encoded, and a mixture of them packed, by the real verbs."""

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataprep import pack, shards
from dataprep.paths import Paths
from dataprep.rank_file import format_ranks
from dataprep.vocab_store import publish_vocab

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many tests as cores: second threads would only wait for each other
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a script's "&" leaves it: Ctrl-C would never be heard
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["VIRTUAL_ENV"] = sys.prefix  # as in an activated environment: commands are printed without its path

WORDS = (
    *("the", "mill", "grinds", "every", "shard", "of", "text", "once", "into", "exact"),
    *("rows", "of", "tokens", "and", "keeps", "count", "of", "all"),
)
SHARED = Path(__file__).resolve().parents[2] / "shared"


def byte_ranks() -> bytes:
    """A vocabulary of the 256 bytes and four merges: real BPE, made in no time."""
    return format_ranks([*(bytes([i]) for i in range(256)), b" t", b" th", b" the", b"in"])


def sentences(seed: str, n_documents: int) -> list[str | None]:
    """Documents of 0 to 60 words; now and then one is empty or null."""
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 60))).capitalize() + "." for _ in range(n_documents)]
    return ["" if i % 17 == 5 else None if i % 23 == 7 else text for i, text in enumerate(texts)]


def write_parquet(file: Path, texts: list[str | None], column: str = "text") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({column: pa.array(texts, pa.string())}), file, row_group_size=50)
    return file


def write_source(root: Path, name: str, shard_documents: list[list[str | None]]) -> None:
    """A local source of parquet shards, the last one held out, added to root/my.toml."""
    for i, texts in enumerate(shard_documents):
        write_parquet(root / name / f"shard_{i:05d}.parquet", texts)
    with (root / "my.toml").open("a") as catalogue:
        holdout = f"shard_{len(shard_documents) - 1:05d}"
        catalogue.write(f'[{name}]\nkind = "local"\npath = "{name}"\ntext = "text"\nholdout = ["{holdout}"]\n')


def run_in(root: Path, verb: Callable[[list[str]], int], *arguments: str) -> int:
    """Call a verb's main with DATAPREP_ROOT at `root`."""
    before = os.environ.get("DATAPREP_ROOT")
    os.environ["DATAPREP_ROOT"] = str(root)
    try:
        return verb(list(arguments))
    finally:
        os.environ.pop("DATAPREP_ROOT") if before is None else os.environ.update(DATAPREP_ROOT=before)


@pytest.fixture(scope="session")
def encoded_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources alpha (3 + 1 shards) and beta (1 + 1), encoded under `tiny-bpe`. Do not change it: copy it."""
    root = tmp_path_factory.mktemp("encoded")
    write_source(root, "alpha", [sentences(f"alpha{i}", 120) for i in range(4)])
    write_source(root, "beta", [sentences(f"beta{i}", 160) for i in range(2)])
    publish_vocab(Paths(root=root), "tiny-bpe", byte_ranks(), origin="made by the tests")
    for source, n in (("alpha", "3"), ("beta", "1")):
        asked = ["--source", source, "--n", n, "--catalogue", str(root / "my.toml"), "--tokenizer", "tiny-bpe"]
        assert run_in(root, shards.main, *asked) == 0
    return root


@pytest.fixture(scope="session")
def packed_root(encoded_root: Path) -> Path:
    """The same root with a recipe `mix`: alpha:beta 70:30 in rows of 64 targets. Copy it before changing it."""
    asked = ["--mix", "70:30", "--sources", "alpha,beta", "--name", "mix", "--seq-len", "64", "--seed", "1"]
    assert run_in(encoded_root, pack.main, *asked) == 0
    return encoded_root


@pytest.fixture
def paths(packed_root: Path, tmp_path: Path) -> Paths:
    """A copy of the packed root, to do with as one likes."""
    shutil.copytree(packed_root, tmp_path / "root")
    return Paths(root=tmp_path / "root")


@pytest.fixture
def root(packed_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the packed root, in which everything that follows happens: a run may be trained there."""
    from training import settle  # which loads torch: not for who trains nothing

    copy = tmp_path / "root"
    shutil.copytree(packed_root, copy)
    settle(monkeypatch, copy)
    return copy
