"""Decoded: token ids as runs of text that can be read, each of one role and one loss.

In:  ids and their loss, of a document or of a part of one. Out: runs; text that is safe to print.
Holds: what is printed comes from the ids, and no document steers the terminal.
"""

import codecs
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from dataprep.rank_file import END
from dataprep.vocab import Vocab

GREEN, DIM, EDGE, PLAIN = "\x1b[32m", "\x1b[2m", "\x1b[4m", "\x1b[0m"
_ROLE_OF_START = {f"<|{role}_start|>": role for role in ("user", "assistant", "system", "python", "output")}


@dataclass(frozen=True, kw_only=True)
class Run:
    """Neighbouring tokens of one role and one loss; a special stands alone. `tokens` are their texts."""

    role: str
    special: bool
    loss: int
    ids: tuple[int, ...]
    tokens: tuple[str, ...]


def split_runs(vocab: Vocab, ids: Sequence[int], loss: Sequence[int]) -> list[Run]:
    """Runs of one role and one loss. Specials say whose turn it is: no text can be one."""
    name_of_special = {special: name for name, special in vocab.specials.items()}
    roles, opened = [], ["text"]
    for token in ids:
        name = name_of_special.get(token, "")
        if name in _ROLE_OF_START:
            opened.append(_ROLE_OF_START[name])
        roles.append("end" if name == END else opened[-1])
        if name.endswith("_end|>") and len(opened) > 1:
            opened.pop()
    places = [(i if token in name_of_special else -1, roles[i], loss[i]) for i, token in enumerate(ids)]
    runs = []
    for (special, role, learned), group in itertools.groupby(range(len(ids)), key=places.__getitem__):
        some = tuple(ids[i] for i in group)
        texts = (name_of_special[some[0]],) if special >= 0 else _texts(vocab, some)
        runs.append(Run(role=role, special=special >= 0, loss=learned, ids=some, tokens=texts))
    return runs


def _texts(vocab: Vocab, ids: Sequence[int]) -> tuple[str, ...]:
    """Each token's text; a character cut by a token's edge goes to the token that completes it."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    texts = [decoder.decode(vocab.oracle.decode_single_token_bytes(token)) for token in ids]
    return (*texts[:-1], texts[-1] + decoder.decode(b"", final=True))
