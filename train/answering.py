r"""Answering: one answer under way, and the choice of the next token for several at once.

In:  a prompt, a `Sampling`, tokens one by one. Out: pieces of text in whole UTF-8 characters; at the end an `Answer`.
Holds: a draw comes from the row's own seed and its count of draws: nothing else in the batch has a part in it;
       only text and the prompt's stops can be chosen, so no answer goes on into somebody else's turn.
    tokens b"caf" b"\xc3" b"\xa9"   pieces "caf" "é";  b"\xc3" and then the end: "\ufffd"
"""

import codecs
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from dataprep.vocab import Vocab
from train.sampling import Sampling, choose
from train.window import Prompt, fit

_DRAW_BITS = 32


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was said. Tokens are counted without the stop that ended it."""

    text: str
    n_prompt_tokens: int
    n_tokens: int
    finish: Literal["stop", "length"]  # it came to its end, or to max_tokens


class Row:
    """An answer under way. Raises UsageError for a prompt that leaves it no room."""

    def __init__(self, vocab: Vocab, prompt: Prompt, sampling: Sampling, context: int) -> None:
        self.prompt, self.sampling = prompt, sampling
        self.said: list[int] = []
        self.pieces: list[str] = []
        self.finish: Literal["stop", "length"] | None = None
        self._vocab, self._context = vocab, context
        self._drawing = random.Random(sampling.seed)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        assert self.window, "every prompt begins from the end token"

    @property
    def n_more(self) -> int:
        """Tokens that may still be said."""
        return self.sampling.max_tokens - len(self.said)

    @property
    def window(self) -> list[int]:
        """The ids in sight when the next one is chosen, were they read now."""
        return fit(self.prompt, self.said, context=self._context, n_more=self.n_more)

    @cached_property
    def allowed(self) -> Tensor:
        """Text and the prompt's stops: bool, V."""
        allowed_V = torch.arange(self._vocab.vocab_size) < self._vocab.end_id
        allowed_V[list(self.prompt.stops)] = True
        return allowed_V

    @property
    def seen(self) -> Tensor:
        """Text of prompt and answer: bool, V. A stop is not among it: a long talk must not make it harder to end."""
        seen_V = torch.zeros(self._vocab.vocab_size, dtype=torch.bool)
        seen_V[[*self.prompt.ids, *self.said]] = True
        seen_V[self._vocab.end_id :] = False
        return seen_V

    @property
    def answer(self) -> Answer:
        """What was said so far."""
        return Answer(
            text="".join(self.pieces),
            n_prompt_tokens=len(self.prompt.ids),
            n_tokens=len(self.said),
            finish=self.finish or "length",
        )

    def draw(self) -> float:
        """The row's next number in [0, 1)."""
        return self._drawing.getrandbits(_DRAW_BITS) / 2**_DRAW_BITS

    def take(self, token: int) -> None:
        """Say `token`, or end with it."""
        if token in self.prompt.stops:
            self._end("stop")
            return
        self.said.append(token)
        self._add(self._decoder.decode(self._vocab.oracle.decode_single_token_bytes(token)))
        if not self.n_more:
            self._end("length")

    def _end(self, finish: Literal["stop", "length"]) -> None:
        self.finish = finish
        self._add(self._decoder.decode(b"", final=True))

    def _add(self, piece: str) -> None:
        if piece:
            self.pieces.append(piece)


def choose_next(rows: Sequence[Row], logits_BV: Tensor) -> list[int]:
    """Each row's next token. Rows that are drawn by the same rule are chosen together."""
    logits_BV = logits_BV[:, : rows[0].allowed.numel()]  # beyond the vocabulary there is nothing but padding
    chosen = [0] * len(rows)
    for rule in dict.fromkeys(row.sampling.rule for row in rows):
        members = [number for number, row in enumerate(rows) if row.sampling.rule == rule]
        some = [rows[number] for number in members]
        tokens_B = choose(
            logits_BV[members],
            rule,
            allowed_BV=torch.stack([row.allowed for row in some]),
            seen_BV=None if rule.repetition_penalty == 1 else torch.stack([row.seen for row in some]),
            uniform_B=torch.tensor([row.draw() for row in some], dtype=torch.float64),
        )
        for number, token in zip(members, tokens_B.tolist(), strict=True):
            chosen[number] = token
    return chosen
