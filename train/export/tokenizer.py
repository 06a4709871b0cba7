"""Tokenizer: our ranks, split and specials as tokenizer.json and tokenizer_config.json.

In:  a `Vocab`, and whether the weights have seen conversations. Out: plain values for JSON.
Holds: id for id our ids. tiktoken joins any two neighbours whose bytes together are a token, the lowest rank first;
       a merge list names pairs, so every pair that makes a token is listed, in rank order. A document begins from
       <|endoftext|>: the tokenizer puts it in front by itself (add_special_tokens=False leaves it out).
Differs: text that spells a special is ordinary text with us; here only with split_special_tokens=True.
The ranks a, b, c, ab, bc, abc give the merges (a, b), (b, c), (a, bc), (ab, c).
"""

from typing import Any

from dataprep.rank_file import END, parse_ranks
from dataprep.vocab import Vocab
from train.export.shape import closing_special
from train.export.template import chat_template


def tokenizer_json(vocab: Vocab) -> dict[str, Any]:
    """tokenizer.json, as the tokenizers library reads it. The split is GPT-2's, which ByteLevel holds built in."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, **_added(text)} for text, number in vocab.specials.items()],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": _begin_with_end(vocab),
        "decoder": level,
        "model": _model(parse_ranks(vocab.ranks_file.read_bytes(), vocab.ranks_file.name)),
    }


def tokenizer_config(vocab: Vocab, *, seq_len: int, talked: bool) -> dict[str, Any]:
    """tokenizer_config.json; with a chat template where the weights have seen conversations."""
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": closing_special(talked=talked),
        "pad_token": next(text for text, number in vocab.specials.items() if number == vocab.pad_id),
        "model_max_length": seq_len,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": True,
        "added_tokens_decoder": {str(number): _added(text) for text, number in vocab.specials.items()},
    }
    return config | ({"chat_template": chat_template(vocab.specials)} if talked else {})


def _model(ranks: dict[bytes, int]) -> dict[str, Any]:
    letters = _letters()
    spelled = {token: "".join(letters[byte] for byte in token) for token in ranks}
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": True,  # a piece that is a token is that token, as in tiktoken, even if no merges lead to it
        "vocab": {spelled[token]: rank for token, rank in ranks.items()},
        "merges": [[spelled[left], spelled[right]] for left, right in _merges(ranks)],
    }


def _merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Every pair of tokens that is a token together, in the order of its rank."""
    merges = []
    for token in sorted(ranks, key=ranks.__getitem__):
        pairs = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [pair for pair in pairs if pair[0] in ranks and pair[1] in ranks]
        merges += sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    return merges


def _begin_with_end(vocab: Vocab) -> dict[str, Any]:
    first, rest = {"SpecialToken": {"id": END, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [first, rest],
        "pair": [first, rest, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {END: {"id": END, "ids": [vocab.end_id], "tokens": [END]}},
    }


def _added(text: str) -> dict[str, Any]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"content": text, **plain, "special": True}


def _letters() -> dict[int, str]:
    """GPT-2's letter for each byte: itself where it can be printed, else one from 256 on."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printed]
    return {byte: chr(byte) for byte in printed} | {byte: chr(256 + i) for i, byte in enumerate(others)}
