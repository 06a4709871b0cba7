"""Vocabularies: ranks, split pattern and specials behind one fingerprint; exact encoding.

In:  a rank file that `vocab_store.load_vocab` found and checked.
Out: ids of Arrow text by gigatoken, the fast engine; ids and text by tiktoken, the oracle.
Holds: ordinary text never becomes a special id, whatever it spells; ids fit two bytes.
gpt2: 50,256 ranks, <|endoftext|> = 50256, chat specials 50257…50267.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dataprep.rank_file import N_SPECIALS, SPLIT_PATTERN, parse_ranks, specials_after

if TYPE_CHECKING:
    import gigatoken
    import tiktoken

_GIGATOKEN_PRETOKENIZER = "gpt2"  # gigatoken's name for SPLIT_PATTERN


@dataclass(frozen=True, kw_only=True)
class Vocab:
    """A tokenizer as bins know it. Heavy engines load on first use."""

    name: str
    ranks_file: Path
    n_ranks: int
    fingerprint: str

    @property
    def end_id(self) -> int:
        """The id that closes every document."""
        return self.n_ranks

    @property
    def pad_id(self) -> int:
        """The id that fills a row's inputs where it has no token; never a target."""
        return self.vocab_size - 1

    @property
    def vocab_size(self) -> int:
        """Ranks and specials together."""
        return self.n_ranks + N_SPECIALS

    @cached_property
    def specials(self) -> dict[str, int]:
        """Special strings and their ids. Text that contains one of them is still ordinary text."""
        return specials_after(self.n_ranks)

    @cached_property
    def byte_lengths(self) -> np.ndarray:
        """UTF-8 bytes that each id stands for, int64[vocab_size]; 0 for specials, which are no text."""
        lengths = np.zeros(self.vocab_size, dtype=np.int64)
        for token, rank in parse_ranks(self.ranks_file.read_bytes(), self.ranks_file.name).items():
            lengths[rank] = len(token)
        return lengths

    @cached_property
    def engine(self) -> "gigatoken.Tokenizer":
        """The fast encoder, loaded with no specials so that no text can produce one."""
        import gigatoken

        return gigatoken.Tokenizer.from_tiktoken(
            self.ranks_file, pretokenizer=_GIGATOKEN_PRETOKENIZER, special_tokens={}
        )

    @cached_property
    def oracle(self) -> "tiktoken.Encoding":
        """The reference encoder, and the decoder."""
        import tiktoken

        ranks = parse_ranks(self.ranks_file.read_bytes(), self.ranks_file.name)
        return tiktoken.Encoding(self.name, pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens=self.specials)

    def encode_texts(self, texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
        """Ordinary ids of each text: (ids uint32[n_ids], offsets int64[n_texts + 1]).

        Runs on the calling thread and releases the GIL. No end tokens are added. `texts` has no nulls.
        """
        import awkward as ak

        _, offsets, characters = texts.buffers()
        starts = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
        letters: Any = np.frombuffer(characters or b"", dtype=np.uint8)
        strings = ak.contents.ListOffsetArray(
            ak.index.Index64(starts),
            ak.contents.NumpyArray(letters, parameters={"__array__": "char"}),
            parameters={"__array__": "string"},
        )
        encoded: Any = self.engine.encode_batch(ak.Array(strings), parallel=False).layout
        return np.asarray(encoded.content.data), np.asarray(encoded.offsets.data)

    def encode_ordinary(self, text: str) -> list[int]:
        """Ids of `text` by the oracle, specials in it taken as plain characters."""
        return self.oracle.encode_ordinary(text)

    def decode(self, ids: list[int]) -> str:
        """Text of `ids`; bytes that are no UTF-8 become replacement characters."""
        return self.oracle.decode([i for i in ids if i < self.vocab_size])
