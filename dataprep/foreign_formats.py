r"""Foreign formats: the bytes that other tools put around the same uint16 tokens, packed and parsed.

In:  counts and document ends, or the bytes of a header or an index. Out: the other.
Holds: a header or an index is believed only where every count in it agrees with the bytes there are.

    llmc      256 int32 (20240520, 1, n tokens, zeros), then tokens with the end token *before* each document
    megatron  .idx: MMIDIDX\0\0, version 1, dtype 8, n sequences, n + 1, lengths int32, byte offsets, documents
    datatrove .ds.index: uint64 document ends; .ds.metadata: tokenizer|2, count, count for people
    dolma     .csv.gz: start,end,id,src,loc
"""

import math
import struct
from typing import NoReturn

import numpy as np

from dataprep.bins import DOCUMENT_END, TOKEN
from dataprep.errors import DataError

LLMC_HEADER_BYTES = 1024
LLMC_MAX_TOKENS = 2**31 - 1
_LLMC_MAGIC, _LLMC_VERSION = 20240520, 1
_LLMC_LLAMA_MAGIC = 20240801
_MEGATRON_MAGIC = b"MMIDIDX\x00\x00"
_MEGATRON_HEADER = struct.Struct("<9sQBQQ")
_MEGATRON_UINT16 = 8
_METRIC_PREFIXES = ("", "k", "M", "G", "T", "P")


def pack_llmc_header(n_tokens: int) -> bytes:
    """The 1,024 bytes before the tokens of a shard of llm.c or modded-nanogpt."""
    header = np.zeros(LLMC_HEADER_BYTES // 4, dtype="<i4")
    header[:3] = _LLMC_MAGIC, _LLMC_VERSION, n_tokens
    return header.tobytes()


def is_llmc(head: bytes) -> bool:
    """Whether a file that begins with `head` has such a header."""
    return head[:4] == struct.pack("<i", _LLMC_MAGIC)


def parse_llmc_header(name: str, head: bytes, file_bytes: int) -> int:
    """Tokens of the shard. Raises DataError where header and size do not agree."""
    magic, version, n_tokens = struct.unpack("<3i", head[:12]) if len(head) == LLMC_HEADER_BYTES else (0, 0, 0)
    if magic == _LLMC_LLAMA_MAGIC:
        refuse(name, f"magic {magic}: tokens of 4 bytes", "magic 20240520: tokens of 2 bytes, as a bin has them")
    if head[:4] == struct.pack(">i", _LLMC_MAGIC):
        refuse(name, "a big-endian header", "little-endian numbers")
    if (magic, version) != (_LLMC_MAGIC, _LLMC_VERSION):
        refuse(name, f"magic {magic}, version {version}, {len(head):,} bytes of header", "20240520, 1 and 1,024 bytes")
    wanted = LLMC_HEADER_BYTES + TOKEN.itemsize * n_tokens
    if n_tokens < 0 or file_bytes != wanted:
        refuse(name, f"{file_bytes:,} bytes", f"{wanted:,}, for the {n_tokens:,} tokens its header counts")
    return n_tokens


def pack_megatron_index(ends: np.ndarray) -> bytes:
    """The .idx of a bin: one sequence per document. `ends` int64[documents], cumulative, in tokens, none empty."""
    lengths = np.diff(ends, prepend=0)
    header = _MEGATRON_HEADER.pack(_MEGATRON_MAGIC, 1, _MEGATRON_UINT16, len(ends), len(ends) + 1)
    offsets = (ends - lengths) * TOKEN.itemsize
    documents = np.arange(len(ends) + 1)
    return (
        header + lengths.astype("<i4").tobytes() + offsets.astype("<i8").tobytes() + documents.astype("<i8").tobytes()
    )


def parse_megatron_index(name: str, content: bytes, bin_bytes: int) -> np.ndarray:
    """Cumulative document ends in tokens, int64[documents]; a document may have been several sequences."""
    if len(content) < _MEGATRON_HEADER.size:
        refuse(name, f"{len(content):,} bytes", f"at least the {_MEGATRON_HEADER.size} of a header")
    magic, version, dtype, n_sequences, n_documents = _MEGATRON_HEADER.unpack_from(content)
    if magic != _MEGATRON_MAGIC or version != 1:
        big_endian = " (big-endian)" if version == 1 << 56 else ""
        refuse(name, f"{magic!r}, version {version}{big_endian}", f"{_MEGATRON_MAGIC!r}, version 1, little-endian")
    if dtype != _MEGATRON_UINT16:
        refuse(name, f"dtype {dtype}", "8, uint16: a bin's token is two bytes, its vocabulary at most 65,536")
    wanted = _MEGATRON_HEADER.size + 12 * n_sequences + 8 * n_documents
    if len(content) != wanted:
        refuse(name, f"{len(content):,} bytes", f"{wanted:,} for {n_sequences:,} sequences (and no modes)")
    lengths = np.frombuffer(content, "<i4", n_sequences, _MEGATRON_HEADER.size).astype(np.int64)
    offsets = np.frombuffer(content, "<i8", n_sequences, _MEGATRON_HEADER.size + 4 * n_sequences)
    documents = np.frombuffer(content, "<i8", n_documents, _MEGATRON_HEADER.size + 12 * n_sequences)
    places = np.concatenate([[0], np.cumsum(lengths)])
    if (lengths < 0).any() or places[-1] * TOKEN.itemsize != bin_bytes:
        refuse(name, f"sequences of {places[-1]:,} tokens", f"{bin_bytes // TOKEN.itemsize:,}, as its .bin has")
    if not np.array_equal(offsets, places[:-1] * TOKEN.itemsize):
        refuse(name, "sequences that do not follow each other", "byte offsets in order, without gaps")
    bounds = (documents[0], documents[-1]) if n_documents else (-1, -1)
    if bounds != (0, n_sequences) or (np.diff(documents) < 0).any():
        refuse(name, f"documents from {bounds[0]} to {bounds[1]}", f"0 to {n_sequences}, ascending")
    return places[documents[1:]]


def parse_datatrove_index(name: str, content: bytes, n_tokens: int) -> np.ndarray:
    """Cumulative document ends in tokens, int64[documents]."""
    if len(content) % DOCUMENT_END.itemsize:
        refuse(name, f"{len(content):,} bytes", "a multiple of 8: uint64 document ends")
    ends = np.frombuffer(content, DOCUMENT_END)
    if len(ends) and (ends[-1] > n_tokens or (ends[1:] < ends[:-1]).any()):
        refuse(name, f"ends up to {ends.max():,}", f"ascending ends, at most the {n_tokens:,} tokens of its .ds")
    return ends.astype(np.int64)


def pack_datatrove_metadata(tokenizer: str, n_tokens: int) -> bytes:
    """The three lines beside a .ds: tokenizer|bytes of a token, tokens, tokens for people."""
    return f"{tokenizer}|{TOKEN.itemsize}\n{n_tokens}\n{_metric(n_tokens)}T".encode()


def check_datatrove_metadata(name: str, content: bytes, n_tokens: int) -> None:
    """Refuse tokens of 4 bytes, and another count than the .ds has."""
    lines = content.decode(errors="replace").split("\n")
    if lines[0].endswith("|4"):
        refuse(name, "tokens of 4 bytes", "2 bytes: a bin's vocabulary is at most 65,536")
    if len(lines) < 2 or lines[1] != str(n_tokens):  # noqa: PLR2004 -- the count is the second line
        refuse(name, f"{lines[1] if len(lines) > 1 else 'no'} tokens", f"{n_tokens}, as its .ds has")


def refuse(name: str, seen: object, wanted: object) -> NoReturn:
    """A foreign file that is not what it should be."""
    raise DataError(
        f"{name} is not a whole file of that format",
        seen=seen,
        wanted=wanted,
        fix="copy it again from where it was made, or name its format: python -m dataprep.import --help",
    )


def _metric(count: int) -> str:
    """Three digits and a prefix, as datatrove's metadata has them: 1234567 is 1.23 M."""
    exponent = int(math.log10(float(f"{count:.3g}"))) if count else 0  # of the rounded count: 999999 is 1.00 M
    thousands = min(exponent // 3, len(_METRIC_PREFIXES) - 1)
    return f"{count / 1000**thousands:.{max(0, 2 - (exponent - 3 * thousands))}f} {_METRIC_PREFIXES[thousands]}"
