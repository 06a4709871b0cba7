"""The text that benches read, prepared once: the Python installation's documents, repeated with variation.

In:  bytes of text wanted, or a folder of parquet files that are taken as they are. Out: files with a `text` column.
Holds: one installation and one size give the same bytes; row groups of 1,024 documents, zstd-3, as the real data
       sets have them; in every copy but the first, all words but the 3,000 commonest are words that nobody has
       seen, and numbers are others: no encoder lives off its cache, and prose stays prose.
Run: python tests/bench/text.py 250M
"""

import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dataprep.python_docs import read_modules, read_topics
from dataprep.quantity import count

SHARD_BYTES = 62_500_000
_SCHEMA = pa.schema([("text", pa.string())])
_WORD = re.compile(r"[A-Za-z]{5,14}|\d+")
_COMMON = 3_000  # the commonest words stay: language lives off them
_SYLLABLES = (
    "ba be bi bo ca ce co da de di do en er es fa fe fi fo ga ge go in is la le li lo ma me mi mo na ne ni no on or"
    " pa pe pi po ra re ri ro sa se si so ta te ti to tra tri tro ul un ur va ve vi vo"
)


def text_files(size_bytes: int, text: Path | None, folder: Path) -> list[Path]:
    """The parquet files to read: those of `text`, or the prepared ones, made where they are missing."""
    if text is not None:
        files = sorted(text.glob("*.parquet"))
        assert files, f"no parquet file in {text}"
        return files
    home = folder / f"text-{size_bytes}"
    if not home.exists():
        part = folder / f".text-{size_bytes}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _prepare(part, size_bytes)
        part.rename(home)
    return sorted(home.glob("*.parquet"))


def _prepare(folder: Path, size_bytes: int) -> None:
    """Shards of equal size, about SHARD_BYTES of text each and three at least where there is enough."""
    n_shards = max(round(size_bytes / SHARD_BYTES), min(3, max(1, size_bytes // 10_000_000)))
    documents = _varied()
    for number in range(n_shards):
        rows, n_bytes = [], 0
        while n_bytes < size_bytes / n_shards:
            rows.append(next(documents))
            n_bytes += len(rows[-1].encode())
        file = folder / f"shard_{number:05d}.parquet"
        table = pa.table({"text": rows}, schema=_SCHEMA)
        pq.write_table(table, file, row_group_size=1024, compression="zstd", compression_level=3)


def _varied() -> Iterator[str]:
    """The documents again and again, the first time as they are, each later copy with words of its own."""
    documents = [document.text for document in (*read_modules(), *read_topics())]
    # A document as pieces of about 5,000 characters: web pages are short, and so shards differ.
    pieces = [piece for document in documents for piece in _pages(document)]
    random.Random(0).shuffle(pieces)
    words = Counter(word.lower() for piece in pieces for word in _WORD.findall(piece))
    rare = [word for word, _ in words.most_common()[_COMMON:] if not word.isdigit()]
    copy = 0
    while True:
        stranger = _strangers(rare, copy)
        for piece in pieces:
            yield piece if copy == 0 else _WORD.sub(lambda found: stranger(found[0]), piece)  # noqa: B023 -- used at once
        copy += 1


def _pages(document: str, page: int = 5_000) -> Iterator[str]:
    """Cut at blank lines."""
    held = ""
    for paragraph in document.split("\n\n"):
        held += paragraph + "\n\n"
        if len(held) >= page:
            yield held.rstrip("\n")
            held = ""
    if held.strip():
        yield held.rstrip("\n")


def _strangers(rare: list[str], copy: int):  # noqa: ANN202 -- a closure over one copy's dictionary
    """What a word of this copy becomes: rare words and numbers others, the same each time, in the same case."""
    rng, syllables = random.Random(copy), _SYLLABLES.split()
    named = {word: "".join(rng.choices(syllables, k=max(2, round(len(word) / 2.3)))) for word in rare}

    def stranger(word: str) -> str:
        if word.isdigit():
            return str((int(word) * 7_919 + copy * 104_729) % 10 ** len(word)) if len(word) > 1 else word
        new = named.get(word.lower())
        if new is None:
            return word
        return new.capitalize() if word[0].isupper() and word[1].islower() else new.upper() if word.isupper() else new

    return stranger


if __name__ == "__main__":
    for path in text_files(count(sys.argv[1]), None, ROOT / ".bench" / "data"):
        print(path, f"{path.stat().st_size:,} bytes")
