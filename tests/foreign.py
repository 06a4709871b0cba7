"""Readers of other tools' formats, fifteen lines each, written from their descriptions and not from our code."""

import csv
import gzip
import struct
from pathlib import Path

import numpy as np

Documents = list[list[int]]


def split_behind(tokens: np.ndarray, end_id: int) -> Documents:
    """Documents that end with the end token."""
    stops = np.flatnonzero(tokens == end_id) + 1
    assert len(tokens) == 0 or stops[-1] == len(tokens)
    return [some.tolist() for some in np.split(tokens, stops)[:-1]]


def read_nanogpt(file: Path, end_id: int) -> Documents:
    return split_behind(np.memmap(file, dtype=np.uint16, mode="r"), end_id)


def read_llmc(file: Path, end_id: int) -> Documents:
    """Each document with its end token moved from before it to behind it."""
    header = np.fromfile(file, "<i4", 256)
    assert header[:2].tolist() == [20240520, 1]
    assert not header[3:].any()
    tokens = np.fromfile(file, "<u2", offset=1024)
    assert file.stat().st_size == 1024 + 2 * header[2]
    assert len(tokens) == header[2] < 2**31
    assert tokens[0] == end_id
    starts = np.flatnonzero(tokens == end_id)
    return [[*some[1:].tolist(), end_id] for some in np.split(tokens, starts)[1:]]


def read_megatron(prefix: Path) -> Documents:
    content = prefix.with_suffix(".idx").read_bytes()
    tokens = np.fromfile(prefix.with_suffix(".bin"), "<u2")
    assert content[:9] == b"MMIDIDX\0\0"
    version, dtype, n_sequences, n_documents = struct.unpack("<QBQQ", content[9:34])
    assert (version, dtype, n_documents) == (1, 8, n_sequences + 1)
    assert len(content) == 42 + 20 * n_sequences
    lengths = np.frombuffer(content, "<i4", n_sequences, 34)
    offsets = np.frombuffer(content, "<i8", n_sequences, 34 + 4 * n_sequences)
    assert np.frombuffer(content, "<i8", n_documents, 34 + 12 * n_sequences).tolist() == list(range(n_documents))
    assert len(tokens) == lengths.sum()
    return [tokens[o // 2 : o // 2 + n].tolist() for o, n in zip(offsets.tolist(), lengths.tolist(), strict=True)]


def read_datatrove(file: Path) -> tuple[Documents, np.ndarray | None]:
    tokens, ends = np.fromfile(file, "<u2"), np.fromfile(f"{file}.index", "<u8").astype(np.int64)
    loss = Path(f"{file}.loss")
    _, count, _ = Path(f"{file}.metadata").read_text().split("\n")
    assert int(count) == len(tokens) == ends[-1]
    documents = [some.tolist() for some in np.split(tokens, ends)[:-1]]
    return documents, np.fromfile(loss, np.uint8) if loss.exists() else None


def read_dolma(file: Path) -> tuple[Documents, list[list[str]]]:
    tokens = np.memmap(file, dtype=np.uint16, mode="r")
    with gzip.open(file.with_suffix(".csv.gz"), "rt", newline="") as lines:
        rows = list(csv.reader(lines))
    return [tokens[int(start) : int(end)].tolist() for start, end, *_ in rows], rows
