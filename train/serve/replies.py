"""Replies: answers as OpenAI's clients read them, whole or in chunks.

In:  an answer's id, its model, the events of a speech. Out: dictionaries, ready to be JSON.
Holds: usage counts the tokens that the model made, the ones behind a stop text too; it is all there or null.
`timing` is ours: seconds that the model worked, for tokens per second without the waiting.
"""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from train.serve.speech import Event, Said

Record = dict[str, Any]


@dataclass(kw_only=True)
class Reply:
    """One reply under way: what every part of it repeats, and what has been counted so far."""

    model: str
    chat: bool
    n: int
    n_prompt_tokens: int
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))
    seconds: float = 0.0
    texts: list[str] = field(init=False)
    finishes: list[str | None] = field(init=False)
    n_tokens: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.texts, self.finishes, self.n_tokens = [""] * self.n, [None] * self.n, [0] * self.n

    def note(self, event: Event) -> None:
        """Count an event in."""
        self.n_tokens[event.choice] = event.n_tokens
        if isinstance(event, Said):
            self.texts[event.choice] += event.text
        else:
            self.finishes[event.choice] = event.finish
            self.seconds += event.seconds

    def usage(self) -> Record:
        """Tokens read and made so far."""
        made = sum(self.n_tokens)
        total = self.n_prompt_tokens + made
        return {"prompt_tokens": self.n_prompt_tokens, "completion_tokens": made, "total_tokens": total}

    def whole(self) -> Record:
        """The reply in one piece."""
        choices = [self._choice(i) for i in range(self.n)]
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head(kind), "choices": choices, "usage": self.usage(), "timing": self.timing()}

    def opening(self) -> list[Record]:
        """The chunks that say who speaks: in a chat, one for each choice."""
        delta = {"role": "assistant", "content": ""}
        return [self._chunk({"index": i, "delta": delta}) for i in range(self.n)] if self.chat else []

    def chunk(self, event: Event, *, with_usage: bool) -> Record:
        """One event as a chunk."""
        text, finish = (event.text, None) if isinstance(event, Said) else ("", event.finish)
        said = {"delta": {"content": text} if text else {}} if self.chat else {"text": text}
        chunk = self._chunk({"index": event.choice, **said}, finish)
        return {**chunk, "usage": self.usage()} if with_usage else chunk

    def closing(self) -> Record:
        """The chunk of usage alone."""
        return {**self._head(self._chunk_kind), "choices": [], "usage": self.usage(), "timing": self.timing()}

    def timing(self) -> Record:
        """What it took, without the waiting."""
        return {"seconds": round(self.seconds, 6)}

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _head(self, kind: str) -> Record:
        prefix = "chatcmpl" if self.chat else "cmpl"
        return {"id": f"{prefix}-{self.id}", "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, choice: Record, finish: str | None = None) -> Record:
        return {**self._head(self._chunk_kind), "choices": [{**choice, "logprobs": None, "finish_reason": finish}]}

    def _choice(self, i: int) -> Record:
        message = {"role": "assistant", "content": self.texts[i], "refusal": None}
        said = {"message": message} if self.chat else {"text": self.texts[i]}
        return {"index": i, **said, "logprobs": None, "finish_reason": self.finishes[i]}
