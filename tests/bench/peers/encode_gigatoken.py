"""A plain script around gigatoken and numpy: what one would write in five lines to have a memory map for nanoGPT.

Measured: parquet to one uint16 file, an end token behind every document that has text, on all cores.
Left out: imports and reading the ranks. It has no hashes, fsync, receipts, document ends or checks.
By itself: all files in one call, then numpy.insert. With --by-file: file by file, the end tokens by a mask, which
is what someone does who has met the memory and the time of the first form.
"""

import sys

import awkward
import gigatoken
import numpy as np
from encode_common import Clock, arguments, say

BY_FILE = "--by-file" in sys.argv
sys.argv = [argument for argument in sys.argv if argument != "--by-file"]
asked = arguments()
tokenizer = gigatoken.Tokenizer.from_tiktoken(asked.ranks, pretokenizer="gpt2", special_tokens={})
end_id = tokenizer.vocab_size
assert awkward.__version__


def encode(files: list) -> tuple[np.ndarray, np.ndarray]:
    """Ids of all documents, and where the documents end that have text."""
    encoded = tokenizer.encode_files(gigatoken.ParquetFileSource(files, column="text")).layout
    offsets = np.asarray(encoded.offsets.data)
    return np.asarray(encoded.content.data), offsets[1:][np.diff(offsets) > 0]


def by_mask(ids: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The same as numpy.insert, in half the time."""
    tokens = np.full(len(ids) + len(ends), end_id, dtype=np.uint16)
    is_text = np.ones(len(tokens), dtype=bool)
    is_text[ends + np.arange(len(ends))] = False
    tokens[is_text] = ids
    return tokens


clock = Clock()
with (asked.work / "tokens.bin").open("wb") as out:
    if BY_FILE:
        for file in asked.files:
            by_mask(*encode([file])).tofile(out)
    else:
        ids, ends = encode(asked.files)
        np.insert(ids, ends, end_id).astype(np.uint16).tofile(out)
clock.stop()

say(clock, asked.text_bytes, ["gigatoken", "numpy"], tokens=["tokens.bin"])
