"""Windows: what a model is asked, and what of it stays in sight once the context is full.

In:  a text, or messages; what was said since. Out: a `Prompt`; the ids of a window that fits the context.
Holds: the end token and the system turn stay, and so do the last user turn and the opened assistant turn; what goes
       first is whole exchanges, oldest first, then the oldest ids of the text or of the answer itself.
Cost: a window that slid is read anew. So that this is rare, it leaves free what may still be said, up to half of what
      can move: one reading per half a context of answer, about twice the work of reading on.
    context 12   end sys | u1 a1 | u2 a2 | u3 →  and an answer that does not fit   →   end sys | u2 a2 | u3 → answer
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataprep.chat import SYSTEM, prompt_ids
from dataprep.errors import UsageError
from dataprep.vocab import Vocab

_LEAST_ROOM = 8  # an answer has at least this fraction of the context, as 1/8


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Ids to go on from, in parts that stay or go; and the ids at which the answer ends."""

    head: tuple[int, ...]  # the end token, from which every document begins, and the system turn
    exchanges: tuple[tuple[int, ...], ...] = ()  # a user turn and its answer each, oldest first
    asked: tuple[int, ...] = ()  # the last user turn and <|assistant_start|>
    text: tuple[int, ...] = ()  # of a plain text
    stops: frozenset[int]

    @property
    def ids(self) -> list[int]:
        """The whole prompt."""
        return [*self.head, *(token for exchange in self.exchanges for token in exchange), *self.asked, *self.text]


def text_prompt(vocab: Vocab, text: str) -> Prompt:
    """A text to go on from, as a document that begins."""
    ids = tuple(vocab.encode_ordinary(text))
    return Prompt(head=(vocab.end_id,), text=ids, stops=frozenset({vocab.end_id}))


def chat_prompt(vocab: Vocab, messages: Sequence[Mapping[str, Any]]) -> Prompt:
    """The assistant's turn after `messages`. Raises UsageError for what is no conversation that asks something."""
    ids = prompt_ids(vocab, messages)
    user = vocab.specials["<|user_start|>"]  # no text can spell it: it opens user turns and nothing else
    first, *starts = [place for place, token in enumerate(ids) if token == user]
    edges = [first, *starts, len(ids)]
    turns = [tuple(ids[begin:end]) for begin, end in itertools.pairwise(edges)]
    assert first == 0 or messages[0]["role"] == SYSTEM, "only a system turn comes before the first user"
    return Prompt(
        head=(vocab.end_id, *ids[:first]),
        exchanges=tuple(turns[:-1]),
        asked=turns[-1],
        stops=frozenset({vocab.end_id, vocab.specials["<|assistant_end|>"]}),
    )


def fit(prompt: Prompt, said: Sequence[int], *, context: int, n_more: int) -> list[int]:
    """The ids in sight after `said`, at most `context`, when up to `n_more` may follow.

    Raises UsageError where system turn and question alone leave an answer no room.
    """
    stays = len(prompt.head) + len(prompt.asked)
    moves = [*prompt.text, *said]
    free = context - stays
    if free < max(1, context // _LEAST_ROOM):
        raise _too_long(prompt, context)
    room = min(n_more, max(1, free // 2))
    exchanges = list(prompt.exchanges)
    if stays + sum(map(len, exchanges)) + len(moves) > context:
        while exchanges and stays + sum(map(len, exchanges)) + len(moves) > context - room:
            del exchanges[0]
        if stays + len(moves) > context:
            moves = moves[len(moves) - (free - room) :]
    return [*prompt.head, *(token for exchange in exchanges for token in exchange), *prompt.asked, *moves]


def _too_long(prompt: Prompt, context: int) -> UsageError:
    most = context - max(1, context // _LEAST_ROOM)
    return UsageError(
        "the message is too long for this model",
        seen=f"{len(prompt.asked):,} tokens, and {len(prompt.head):,} before it that stay",
        wanted=f"at most {most:,} of its {context:,} together, so that an answer has room",
        fix="a shorter message, or a shorter system message",
    )
