"""A huggingface tokenizer.json made from byte-pair ranks, for the peers that read nothing else.

In:  ranks, bytes to id. Out: the JSON of a byte-level BPE whose merges are those the ranks imply, with an end token.
Holds: id for id the vocabulary of the ranks; a token's two parts are what the ranks below its own leave of it.
The ranks a, b, c, ab, abc give the merges (a, b) and (ab, c).
"""

import itertools
import json
from typing import Any

END = "<|endoftext|>"


def tokenizer_json(ranks: dict[bytes, int]) -> str:
    """The whole file. The split pattern is GPT-2's, which `ByteLevel` holds built in."""
    letters = _letters()
    spelled = {token: "".join(letters[byte] for byte in token) for token in ranks}
    in_order = sorted((token for token in ranks if len(token) > 1), key=ranks.__getitem__)
    # Joined by a blank, which no letter is: older releases of tokenizers read no pairs.
    merges = [" ".join(spelled[part] for part in _two_parts(token, ranks)) for token in in_order]
    end = {"id": len(ranks), "content": END, "special": True, "normalized": False}
    level: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [end | {"single_word": False, "lstrip": False, "rstrip": False}],
            "normalizer": None,
            "pre_tokenizer": level,
            "post_processor": None,
            "decoder": level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": False,
                "byte_fallback": False,
                "vocab": {spelled[token]: rank for token, rank in ranks.items()} | {END: len(ranks)},
                "merges": merges,
            },
        },
        ensure_ascii=False,
    )


def _two_parts(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """What byte pair encoding makes of `token` before its own, last merge."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, len(ranks)) for left, right in itertools.pairwise(parts)]
        place = pairs.index(min(pairs))
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


def _letters() -> dict[int, str]:
    """GPT-2's letter for each byte: itself where it can be printed, else one from 256 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}
