r"""Rank files: the bytes of a `.tiktoken` vocabulary, the specials after them, one fingerprint.

In:  lines of base64 token, space, rank. Out: {token bytes: rank}, special ids, a fingerprint.
Holds: ranks are 0…n-1 without gaps, then <|endoftext|>, then the chat specials; at most 65,536 ids.
Example: b"IQ== 0\nIg== 1\n" says that b"!" has rank 0 and b'"' rank 1.
"""

import base64
import hashlib
import json

from dataprep.errors import DataError, UsageError

END = "<|endoftext|>"
CHAT_SPECIALS = (
    "<|user_start|>",
    "<|user_end|>",
    "<|assistant_start|>",
    "<|assistant_end|>",
    "<|system_start|>",
    "<|system_end|>",
    "<|python_start|>",
    "<|python_end|>",
    "<|output_start|>",
    "<|output_end|>",
    "<|pad|>",
)
N_SPECIALS = 1 + len(CHAT_SPECIALS)
N_BYTES = 256  # every byte is a token, so that any text can be encoded
MAX_VOCAB_SIZE = 1 << 16  # a bin's token is a uint16
# GPT-2's split, with possessive quantifiers as tiktoken spells it: the same matches without backtracking.
SPLIT_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


def parse_ranks(ranks_bytes: bytes, file_name: str) -> dict[bytes, int]:
    """{token bytes: rank} of a .tiktoken file. Raises DataError for a file that is none, or too large."""
    try:
        pairs = [line.split() for line in ranks_bytes.splitlines() if line]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
    except ValueError:
        ranks = {}
    has_every_byte = all(bytes([byte]) in ranks for byte in range(N_BYTES))
    if sorted(ranks.values()) != list(range(len(ranks))) or not has_every_byte:
        raise DataError(
            f"{file_name} is not a rank file",
            seen=f"{len(ranks):,} usable lines",
            wanted="lines of base64 and rank, ranks 0, 1, 2, … (at least the 256 bytes)",
            fix="give the .tiktoken file of the tokenizer",
        )
    if len(ranks) + N_SPECIALS > MAX_VOCAB_SIZE:
        raise UsageError(
            f"{file_name} is too large a vocabulary",
            seen=f"{len(ranks):,} ranks + {N_SPECIALS} specials",
            wanted=f"at most {MAX_VOCAB_SIZE:,}: a token is two bytes",
            fix="choose a smaller tokenizer, such as gpt2",
        )
    return ranks


def format_ranks(tokens: list[bytes]) -> bytes:
    """A .tiktoken file's bytes for tokens in rank order."""
    return b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(tokens))


def specials_after(n_ranks: int) -> dict[str, int]:
    """Special strings and the ids that follow `n_ranks` ranks, in DESIGN's order."""
    return {text: n_ranks + i for i, text in enumerate((END, *CHAT_SPECIALS))}


def fingerprint(ranks_bytes: bytes, n_ranks: int) -> str:
    """sha256 over the ranks' own sha256, the split pattern and the specials with their ids."""
    parts = {
        "ranks": hashlib.sha256(ranks_bytes).hexdigest(),
        "split": SPLIT_PATTERN,
        "specials": list(specials_after(n_ranks).items()),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
