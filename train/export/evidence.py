"""Evidence: the texts and conversations that an export is tried with, ordinary and hostile.

In:  the specials. Out: texts whose ids must be ours; conversations that must be rendered as training saw them.
Holds: the same texts every time. Code points are sampled over all planes, so that a class of letters which one
       library's Unicode tables lack is met where it is used.
"""

from collections.abc import Iterable
from typing import Any

ORDINARY = (
    "The mill grinds every shard of text once, into exact rows of tokens.",
    "It's 3 o'clock; we'll see what they've said, and who'd said it.\n\nAnother paragraph, 1234567890.",
    "def mill(shards: list[str]) -> int:\n    return sum(len(shard) for shard in shards)  # exact\n",
    "Zwölf Mühlen mahlen; où est le café ? Ελληνικά, русский, 日本語, 한국어, हिन्दी.",
)
_LONGEST_RUN = 777
_CODE_POINT_STRIDE = 353  # a prime: no class of code points is stepped over as a whole
_N_CODE_POINTS, _SURROGATES = 0x110000, range(0xD800, 0xE000)
_CODE_POINTS_PER_TEXT = 512


def hostile(specials: Iterable[str]) -> list[str]:
    """Texts that break tokenizers which are only nearly the same."""
    spelled = [f"a{special}b {special}" for special in specials]
    runs = [letter * _LONGEST_RUN for letter in ("a", " ", "\n", "é", "=", "\t ", "12", "🙂", "the ", "abab a")]
    spaces = ["", " ", "  ", "\n", " \n ", "x  ", "  x   y    ", "\r\n\r\n", "a\u00a0b\u2003c\u3000 d\u200be\u0085f"]
    odd = [
        *(
            "\0",
            "a\0b \0\0 c",
            "\x1b[0m\x7f\x80",
            "\ufeffbom",
            "\ufffd\uffff",
            "e\u0301 n\u0303\u0323",
            "\u0130\u0131i \u017fß",
        ),
        *(
            "\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 👍🏽 🇩🇪",
            "שלום עולם \u202eabc\u202c مرحبا بالعالم",
            "'s'S'll'LL'Re ''ve x'd'",
            "½²③Ⅷ١٢٣ \U0001d7d8\U0001d7d9",
        ),
        *("<|", "|>", "<|endoftext", "<|end<|endoftext|>oftext|>", "[UNK]<pad></s><s>", "Ġthe Ċ Ń"),
    ]
    return [*ORDINARY, *spelled, *runs, *spaces, *odd, *code_points()]


def code_points() -> list[str]:
    """Every so many-th code point, beside a letter, a digit, a blank and a mark: what it is decides where it is cut."""
    sampled = [chr(c) for c in range(0, _N_CODE_POINTS, _CODE_POINT_STRIDE) if c not in _SURROGATES]
    return [
        "".join(
            f"a{letter}1{letter}{letter} {letter}.{letter}" for letter in sampled[first : first + _CODE_POINTS_PER_TEXT]
        )
        for first in range(0, len(sampled), _CODE_POINTS_PER_TEXT)
    ]


def conversations() -> list[list[dict[str, Any]]]:
    """Conversations of every form that training takes: some end with the user, some with the assistant."""
    system, user = {"role": "system", "content": " Be kind.\n"}, {"role": "user", "content": "Hi, what is 2+3?"}
    tools = [
        {"type": "text", "text": "It is "},
        {"type": "python", "text": "2+3"},
        {"type": "output", "text": "5"},
        {"type": "text", "text": "5.\n\n"},
    ]
    listed = {
        "role": "user",
        "content": [{"type": "text", "text": "  parts, <b>&amp;</b> {{ braces }} {% raw %} 'q' \"q\"\n"}],
    }
    answer, worked = {"role": "assistant", "content": "5."}, {"role": "assistant", "content": tools}
    named = {"role": "assistant", "content": [{"type": "python_output", "text": ""}, {"type": "text", "text": "x"}]}
    odd = {"role": "user", "content": "\0 שלום 👍🏽 \r\n\t <|user_ end|>"}
    return [
        [user],
        [system, user],
        [user, answer],
        [system, user, worked, listed],
        [listed, worked],
        [system, odd, answer, user, named, odd],
    ]
