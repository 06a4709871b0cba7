"""Desk: one model that is served, and the line of those who wait for it.

In:  an opened model; a prompt and how to draw. Out: a `Speech`.
Holds: a model works for one asker at a time; a line has an end, and waiting too: who finds it full is told when to
       come again; who leaves the line leaves no trace.
desk = Desk(opened, talks=True, n_waiting=8); speech = await desk.ask(prompt, sampling, n=1, stops=[], gone=gone)
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dataprep.errors import QuernError
from train.engine import Engine, Prompt, chat_prompt, text_prompt
from train.sampling import Sampling
from train.serve.refusals import Refusal, from_error
from train.serve.speech import Speech
from train.weights import Opened
from train.window import fit

_WAIT_S = 120.0
_COME_AGAIN_S = 5


class Desk:
    """One model, and who is served by it."""

    def __init__(self, opened: Opened, *, talks: bool, n_waiting: int, wait_s: float = _WAIT_S) -> None:
        self.opened, self.talks = opened, talks
        self._engine = Engine(opened.model, opened.vocab)
        self._busy, self._n_waiting = asyncio.Lock(), 0
        self._most_waiting, self._wait_s = n_waiting, wait_s
        self._speech: Speech | None = None
        self._closed = asyncio.Event()

    @property
    def label(self) -> str:
        """RUN@STEP: the model's id."""
        return self.opened.label

    def facts(self) -> dict[str, Any]:
        """What there is to know about it, for /v1/models and the page."""
        cursor = self.opened.checkpoint.cursor
        return {
            "chat": self.talks,
            "context": self.opened.seq_len,
            "parameters": sum(weight.numel() for weight in self.opened.model.parameters()),
            "recipe": self.opened.recipe,
            "step": cursor.step,
            "tokens": cursor.tokens_done,
        }

    def chat(self, messages: Sequence[dict[str, str]]) -> Prompt:
        """Ids that ask for the next turn. Raises Refusal for what is no conversation, or of a model that has none."""
        if not self.talks:
            said = f"{self.label} has learned no conversations: ask it to go on with a text, at /v1/completions"
            raise Refusal(400, said, param="model", code="model_does_not_chat")
        try:
            return chat_prompt(self.opened.vocab, messages)
        except QuernError as error:
            raise from_error(error, param="messages") from None

    def text(self, text: str) -> Prompt:
        """Ids to go on from."""
        return text_prompt(self.opened.vocab, text)

    def insist_it_fits(self, prompt: Prompt, *, param: str, may_slide: bool) -> None:
        """Raise Refusal for a prompt longer than the context, or where even sliding leaves no room for an answer."""
        n_tokens, context = len(prompt.ids), self._engine.context
        if n_tokens >= context and not may_slide:
            said = f"{n_tokens:,} tokens, and {self.label} sees {context:,}: "
            said += 'ask less, or with "truncation": "auto", which lets the oldest go'
            raise Refusal(400, said, param=param, code="context_length_exceeded")
        try:
            fit(prompt, (), context=context, n_more=1)
        except QuernError as error:
            raise from_error(error, param=param, code="context_length_exceeded") from None

    async def ask(
        self, prompt: Prompt, sampling: Sampling, *, n: int, stops: Sequence[str], gone: asyncio.Event
    ) -> Speech:
        """Wait in line, then begin. Raises Refusal when the line is full or does not move, or the asker has gone."""
        await self._wait_in_line(gone)
        streams = [lambda i=i: self._engine.stream(prompt, replace(sampling, seed=sampling.seed + i)) for i in range(n)]
        self._speech = Speech(streams, stops, self._busy.release)
        if gone.is_set():
            self._speech.cancel()
        return self._speech

    def close(self) -> None:
        """End what is being said, and send away who waits. In the event loop."""
        self._closed.set()
        if self._speech:
            self._speech.end(_ending())

    async def _wait_in_line(self, gone: asyncio.Event) -> None:
        if self._busy.locked() and self._n_waiting >= self._most_waiting:
            said = f"{self.label} is busy and {self._n_waiting} wait already"
            raise Refusal(503, said, code="queue_full", retry_after_s=_COME_AGAIN_S)
        self._n_waiting += 1
        turn = asyncio.ensure_future(self._busy.acquire())
        leaving = [asyncio.ensure_future(event.wait()) for event in (gone, self._closed)]
        try:
            await asyncio.wait({turn, *leaving}, timeout=self._wait_s, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            _give_up(turn, self._busy)
            raise
        finally:
            for task in leaving:
                task.cancel()
            self._n_waiting -= 1
        if self._closed.is_set():
            _give_up(turn, self._busy)
            raise _ending()
        if not turn.done():
            _give_up(turn, self._busy)
            said = f"{self.label} was busy for {self._wait_s:.0f} s"
            raise Refusal(503, said, code="waited_too_long", retry_after_s=_COME_AGAIN_S)


def _ending() -> Refusal:
    return Refusal(503, "the server is ending")


def _give_up(turn: "asyncio.Future[Any]", busy: asyncio.Lock) -> None:
    """Leave the line; whoever has come to the front of it already gives the place back."""
    if not turn.cancel():
        busy.release()
