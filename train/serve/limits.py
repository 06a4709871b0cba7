"""Limits: who may ask, how much at once, and how often. Every request passes here before anything reads it.

In:  a request as ASGI brings it. Out: the same request with its body read whole; or a refusal.
Holds: without a key only this machine's own programs and pages are answered: a foreign name in Host (DNS rebinding)
       or a foreign page in Origin is refused; keys are compared in constant time and never printed.
403 foreign host or page · 401 key · 429 rate · 413 size · 408 too slow · 415 no JSON
"""

import asyncio
import hmac
import logging
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from train.serve.refusals import Refusal

_LOG = logging.getLogger("uvicorn.error")  # which prints to stderr
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_API = "/v1/"
_BODY_S = 20.0
_MOST_CLIENTS = 10_000
_ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is asked for on the command line."""

    names: frozenset[str] | None  # that may stand in Host; None: any, where a key is asked for
    key: str | None = None
    body_bytes: int = 1 << 20
    requests_per_minute: int = 120
    max_tokens: int = 2048


class Pace:
    """A bucket of tries for each client: as many at once as in a minute, refilled evenly."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._spent: dict[str, tuple[float, float]] = {}  # client: tries spent, when that was true

    def wait_s(self, client: str, now: float) -> float:
        """Seconds until this client may try; 0.0 counts a try."""
        spent = self._spent_now(client, now)
        if spent + 1 > self._per_minute:
            return (spent + 1 - self._per_minute) * 60 / self._per_minute
        if len(self._spent) >= _MOST_CLIENTS:
            self._spent = {other: spent for other, spent in self._spent.items() if self._spent_now(other, now) > 0}
        self._spent[client] = spent + 1, now
        return 0.0

    def _spent_now(self, client: str, now: float) -> float:
        spent, then = self._spent.get(client, (0.0, now))
        return max(0.0, spent - (now - then) * self._per_minute / 60)


class Gate:
    """Stands before an application."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits, self._pace = app, limits, Pace(limits.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_headers(send)
        try:
            self._admit(scope, Headers(scope=scope))
            receive = await self._with_body(Headers(scope=scope), receive)
        except Refusal as refusal:
            await refusal.response()(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except Exception:  # noqa: BLE001 -- the log has it, and the asker a 500
            # The application has answered 500. Raised further it would cost the asker the connection as well.
            _LOG.exception("a request failed")

    def _admit(self, scope: Scope, headers: Headers) -> None:
        names, host = self._limits.names, headers.get("host", "")
        if names is not None and _name_of(f"//{host}") not in names:
            raise Refusal(403, f"this server answers to {', '.join(sorted(names))} only", code="foreign_host")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Refusal(403, "pages of other sites are not answered", code="foreign_origin")
        if not scope["path"].startswith(_API):
            return
        self._keep_pace(scope)  # before the key, so that keys cannot be tried in bulk
        self._ask_key(headers)
        if scope["method"] == "POST" and headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise Refusal(415, "the body must be JSON, with content-type: application/json")

    def _keep_pace(self, scope: Scope) -> None:
        client = (scope.get("client") or ("unknown",))[0]
        wait_s = self._pace.wait_s(client, time.monotonic())
        if wait_s:
            said = f"more than {self._limits.requests_per_minute} requests a minute"
            raise Refusal(429, said, code="rate_limit_exceeded", retry_after_s=int(wait_s) + 1)

    def _ask_key(self, headers: Headers) -> None:
        if self._limits.key is None:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self._limits.key.encode())
        if kind.lower() != "bearer" or not same:
            said = "the key is missing or wrong: it is sent as Authorization: Bearer KEY"
            raise Refusal(401, said, code="invalid_api_key")

    async def _with_body(self, headers: Headers, receive: Receive) -> Receive:
        """`receive` that gives the whole body at once; it is read here, and no further than the limit."""
        most = self._limits.body_bytes
        too_large = Refusal(413, f"the body is larger than {most:,} bytes", code="request_too_large")
        if headers.get("content-length", "0").isdigit() and int(headers.get("content-length", "0")) > most:
            raise too_large
        body, more = b"", True
        try:
            async with asyncio.timeout(_BODY_S):
                while more:
                    message = await receive()
                    body, more = body + message.get("body", b""), message.get("more_body", False)
                    if len(body) > most:
                        raise too_large
        except TimeoutError:
            raise Refusal(408, f"the body did not come within {_BODY_S:.0f} s") from None
        return _replay(body, receive)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body as one message, then whatever else comes."""
    first: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> MutableMapping[str, Any]:
        return first.pop() if first else await receive()

    return replayed


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_ALWAYS]
        await send(message)

    return sending


def _name_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
