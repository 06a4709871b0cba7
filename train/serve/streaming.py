"""Streaming: a speech becomes an answer, whole or as server-sent events; who leaves is noticed.

In:  a request, a speech, the reply it fills. Out: a response.
Holds: when the asker has gone the model stops before its next token; a failure within a stream is an event of its
       own, and the stream ends without [DONE].
data: {"choices": [{"delta": {"content": "Hel"}}]}
data: [DONE]
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from train.serve.refusals import Refusal
from train.serve.replies import Reply
from train.serve.speech import Speech

_LOG = logging.getLogger("uvicorn.error")  # which prints to stderr
_DONE = "data: [DONE]\n\n"


class Presence:
    """Whether the asker of a request is still there: `gone` is set once they are not, or have their answer."""

    def __init__(self, request: Request) -> None:
        self.gone = asyncio.Event()
        self._speech: Speech | None = None
        # A task of its own: whatever becomes of the response, a speech without a listener ends.
        self._watching = asyncio.create_task(self._watch(request))

    def listen_to(self, speech: Speech) -> None:
        """Have this speech end when the asker goes."""
        self._speech = speech
        if self.gone.is_set():
            speech.cancel()

    async def _watch(self, request: Request) -> None:
        with contextlib.suppress(OSError):
            while (await request.receive())["type"] != "http.disconnect":
                pass
        self.gone.set()
        if self._speech:
            self._speech.cancel()


async def whole(speech: Speech, reply: Reply) -> Response:
    """The answer in one piece."""
    async for event in speech:
        reply.note(event)
    return JSONResponse(reply.whole())


def streamed(speech: Speech, reply: Reply, *, usage_at_end: bool, usage_always: bool) -> Response:
    """The answer as it is made."""

    async def lines() -> AsyncIterator[str]:
        try:
            for chunk in reply.opening():
                yield _event(chunk)
            async for event in speech:
                reply.note(event)
                yield _event(reply.chunk(event, with_usage=usage_always))
            if usage_at_end:
                yield _event(reply.closing())
            yield _DONE
        except Refusal as refusal:  # the server is told to end: the answer has no end, and must not look whole
            yield _event(refusal.body)
        except Exception:  # noqa: BLE001 -- said to the asker and in the log
            # The answer has begun: its status is sent, and cut off it would look like a broken line.
            _LOG.exception("the model failed")
            yield _event(Refusal(500, "the model failed; the server's terminal says why").body)
        finally:
            speech.cancel()

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
