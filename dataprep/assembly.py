"""Assembly: ids of texts put together into the tokens, document ends and loss mask of a batch.

In:  ordinary ids and their offsets; for conversations also the script they follow. Out: `Assembled`.
Holds: every document with text ends with one end token; specials come from the script, never from text.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dataprep.bins import LOSS, TOKEN
from dataprep.turns import HEARD, SAID, SLOT_SPECIALS, Script
from dataprep.vocab import Vocab

_LEARNED = ("<|assistant_end|>", "<|python_start|>", "<|python_end|>")


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """`tokens` uint16, cumulative `ends` int64 within the batch, `loss` uint8 or None where there are no roles."""

    tokens: np.ndarray
    ends: np.ndarray
    loss: np.ndarray | None

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document."""
        return np.diff(self.ends, prepend=0)

    def count_unsupervised(self) -> int:
        """Documents that have tokens and none to learn."""
        if self.loss is None:
            return 0
        learned = np.concatenate([[0], np.cumsum(self.loss, dtype=np.int64)])
        per_document = learned[self.ends] - learned[self.ends - self.lengths]
        return int(np.count_nonzero((self.lengths > 0) & (per_document == 0)))


def close_documents(ids: np.ndarray, offsets: np.ndarray, end_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Put the end token behind every non-empty document: (tokens uint16, cumulative ends int64).

    >>> close_documents(np.array([7, 8, 9]), np.array([0, 2, 2, 3]), 99)
    (array([ 7,  8, 99,  9, 99], dtype=uint16), array([3, 3, 5]))
    """
    lengths = np.diff(offsets)
    has_text = lengths > 0
    two_bytes: Any = ids.astype(TOKEN).view(np.uint8)
    text = memoryview(two_bytes)
    stops = (offsets[1:][has_text] * TOKEN.itemsize).tolist()
    # Slices of bytes, joined in one pass: a third to a half cheaper than a numpy slice per document.
    pieces: list[Any] = [TOKEN.type(end_id).tobytes()] * (2 * len(stops))
    pieces[::2] = [text[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]
    return np.frombuffer(b"".join(pieces), dtype=TOKEN), np.cumsum(lengths + has_text)


def follow(script: Script, ids: np.ndarray, offsets: np.ndarray, vocab: Vocab) -> Assembled:
    """Fill the script's slots: a text slot with its ids, any other with its special."""
    is_text = script.slots >= HEARD
    lengths = np.ones(len(script.slots), dtype=np.int64)
    lengths[is_text] = np.diff(offsets)
    is_text_token = np.repeat(is_text, lengths)
    tokens = np.empty(len(is_text_token), dtype=TOKEN)
    tokens[is_text_token] = ids
    tokens[~is_text_token] = _special_ids(vocab)[script.slots[~is_text]]
    ends = np.concatenate([[0], np.cumsum(lengths)])[np.cumsum(script.n_slots)]
    return Assembled(tokens=tokens, ends=ends, loss=np.repeat(_LOSS_OF_SLOT[script.slots], lengths))


def _special_ids(vocab: Vocab) -> np.ndarray:
    return np.array([vocab.specials[name] for name in SLOT_SPECIALS], dtype=TOKEN)


_LOSS_OF_SLOT = np.zeros(256, dtype=LOSS)
_LOSS_OF_SLOT[[SAID, *(SLOT_SPECIALS.index(name) for name in _LEARNED)]] = 1
