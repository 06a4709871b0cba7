"""The engine: what a model goes on with, token by token, for one prompt as a stream or for many at once.

In:  a model, its vocabulary, prompts, a `Sampling`. Out: text in whole characters; `Answer`s.
Holds: a row's answer is the one it has alone, whatever else is in the batch; specials are never said, a stop ends the
       answer and is no part of it; the pieces of a stream, joined, are the answer's text.
    engine = Engine(opened.model, opened.vocab)
    engine.generate([text_prompt(vocab, "the mill")], Sampling(temperature=0))[0].text == " grinds every shard"
"""

import itertools
from collections.abc import Iterator, Sequence

import torch

from dataprep.vocab import Vocab
from train.answering import Answer, Row, choose_next
from train.cache import Cache
from train.model import GPT
from train.sampling import Sampling
from train.window import Prompt, chat_prompt, text_prompt

__all__ = ["Answer", "Engine", "Prompt", "Stream", "chat_prompt", "text_prompt"]
_ROWS_AT_ONCE = 16  # bounds the cache's memory


class Stream:
    """An answer under way: iterate over its pieces of text. `answer` is what was said so far, whole at the end."""

    def __init__(self, row: Row, steps: Iterator[None]) -> None:
        self._row, self._steps = row, steps

    def __iter__(self) -> Iterator[str]:
        n_given = 0
        for _ in self._steps:
            yield from self._row.pieces[n_given:]
            n_given = len(self._row.pieces)

    @property
    def answer(self) -> Answer:
        """What was said. Left in the middle, it is an answer that was cut at its length."""
        return self._row.answer


class Engine:
    """Answers of one model. Calls share nothing but the weights: any number may be under way."""

    def __init__(self, model: GPT, vocab: Vocab) -> None:
        self._model, self._vocab = model, vocab
        self._device = model.embedding.weight.device
        self.context = model.cos_TE.shape[0]  # tokens in sight, at most

    def stream(self, prompt: Prompt, sampling: Sampling) -> Stream:
        """Say it piece by piece. Raises UsageError at once for a prompt that does not fit."""
        row = Row(self._vocab, prompt, sampling, self.context)
        return Stream(row, self._steps([row]))

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling | Sequence[Sampling]) -> list[Answer]:
        """An answer to each. One sampling, its seed too, is for all; or give one for each."""
        samplings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else sampling
        rows = [Row(self._vocab, *each, self.context) for each in zip(prompts, samplings, strict=True)]
        for begin in range(0, len(rows), _ROWS_AT_ONCE):
            for _ in self._steps(rows[begin : begin + _ROWS_AT_ONCE]):
                pass
        return [row.answer for row in rows]

    def _steps(self, rows: Sequence[Row]) -> Iterator[None]:
        """Let every row say its next token, again and again, until none has more to say."""
        cache = self._opened(rows)
        self._read([row.window for row in rows], cache)
        while rows:
            for row, token in zip(rows, self._next(rows, cache), strict=True):
                row.take(token)
            yield
            going = [number for number, row in enumerate(rows) if row.finish is None]
            if len(going) < len(rows):
                rows, cache = [rows[number] for number in going], cache.only(going)
            for number, row in enumerate(rows):
                if cache.lengths[number] == self.context:  # its latest token has no place: the window slides
                    one = cache.row(number)
                    self._read([row.window], one)
                    cache.lengths[number] = one.lengths[0]

    def _opened(self, rows: Sequence[Row]) -> Cache:
        longest = max((len(row.window) + row.n_more for row in rows), default=0)
        like = self._model.embedding.weight
        n_positions = min(self.context, longest)
        return Cache.empty(self._model.shape, n_rows=len(rows), n_positions=n_positions, like=like)

    def _read(self, windows: Sequence[Sequence[int]], cache: Cache) -> None:
        """All but the last id of each window, side by side; what a shorter one is filled up with counts as unread."""
        lengths = [len(window) - 1 for window in windows]
        if any(lengths):
            filled = zip(*itertools.zip_longest(*(window[:-1] for window in windows), fillvalue=0), strict=True)
            self._logits(list(filled), cache)
        cache.lengths = lengths

    def _next(self, rows: Sequence[Row], cache: Cache) -> list[int]:
        latest = [[row.said[-1] if row.said else row.window[-1]] for row in rows]
        return choose_next(rows, self._logits(latest, cache))

    @torch.inference_mode()
    def _logits(self, ids: Sequence[Sequence[int]], cache: Cache) -> torch.Tensor:
        return self._model.cached_logits(torch.tensor(ids, device=self._device), cache).cpu()
