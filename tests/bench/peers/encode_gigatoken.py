"""A plain script around gigatoken and numpy: what one would write in ten lines to have a memory map for nanoGPT.

Measured: parquet to one uint16 file, an end token behind every document that has text, on all cores.
Left out: imports and reading the ranks; hashes, fsync, receipts, document ends and checks, which it has not.
File by file, because memory would hold all tokens twice otherwise.
"""

import time

import awkward
import gigatoken
import numpy as np
from encode_common import arguments, say

asked = arguments()
tokenizer = gigatoken.Tokenizer.from_tiktoken(asked.ranks, pretokenizer="gpt2", special_tokens={})
end_id = tokenizer.vocab_size
assert awkward.__version__

began = time.perf_counter()
with (asked.work / "tokens.bin").open("wb") as out:
    for file in asked.files:
        encoded = tokenizer.encode_files(gigatoken.ParquetFileSource([file], column="text")).layout
        ids, offsets = np.asarray(encoded.content.data), np.asarray(encoded.offsets.data)
        ends = offsets[1:][np.diff(offsets) > 0]
        tokens = np.full(len(ids) + len(ends), end_id, dtype=np.uint16)
        is_text = np.ones(len(tokens), dtype=bool)
        is_text[ends + np.arange(len(ends))] = False
        tokens[is_text] = ids
        tokens.tofile(out)
seconds = time.perf_counter() - began

say(seconds, asked.text_bytes, ["gigatoken", "numpy"], tokens=["tokens.bin"])
