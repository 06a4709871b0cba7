"""The Hub's own client, made patient but not endless: hooks into its transport, and a silent progress bar.

In:  the seconds that one answer may take to begin. Out: a client whose every request is limited and judged.
Holds: no request waits for ever, no answer crawls for ever, and a wait that a server asks for is not slept here but
       left to `retry`; the user's token goes to HF_ENDPOINT's host and to no other.
"""

import functools
import importlib
import os
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from dataprep.errors import UsageError
from dataprep.patience import LOGIN, MayPass, Pace, wait_asked
from dataprep.urls import PASSING, SERVER_ERROR

API_TIMEOUT_S = 30  # the client's listing waits for ever by itself; its downloads wait 10 s per read
_PREPARING = threading.Lock()


def endpoint() -> str:
    """The Hub's address. The client reads HF_ENDPOINT at import; we read it at call time and pass it on."""
    address = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    if not address.startswith(("http://", "https://")):
        seen = address.rpartition("@")[2]  # what stands before it is a password
        raise UsageError("HF_ENDPOINT is not an address", seen=seen, wanted="https://…", fix="unset HF_ENDPOINT")
    return address


def shown_endpoint() -> str:
    """The Hub's address to be printed and kept: a mirror's may have a name and password, as in https://me:secret@host."""
    return LOGIN.sub("", endpoint())


def endpoint_login() -> str | None:
    """The name and password of HF_ENDPOINT as a header says them. The Hub's client reads them by itself."""
    found = LOGIN.search(endpoint())
    name, _, password = found[0][:-1].partition(":") if found else ("", "", "")
    return f"Basic {b64encode(f'{unquote(name)}:{unquote(password)}'.encode()).decode()}" if found else None


def prepare_client() -> None:
    """As `_prepare_once`, before the first request of whichever thread comes first; the others wait for it."""
    with _PREPARING:
        _prepare_once()


@functools.cache  # alone it would let several first callers in, and each would close the client of the one before
def _prepare_once() -> None:
    """Silence the client's own warnings; give every request a time limit, and every answer one of speed.

    `list_repo_tree` passes timeout=None, which means for ever, and takes no other; the client's own
    waiting has no end where a server asks for a day, or sends one byte now and then. The limits go in
    by hooks of a client like the one it would make. hf-xet's own transport they do not reach, and it waits
    without end for storage that is silent: files come by plain HTTP, if HF_HUB_DISABLE_XET=0 does not ask for it.
    """
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()
    constants.HF_HUB_DISABLE_XET = constants.HF_HUB_DISABLE_XET or "HF_HUB_DISABLE_XET" not in os.environ
    made = huggingface_hub.get_session()
    kind = type(made)
    paced = _paced_stream(importlib.import_module(kind.__module__.partition(".")[0]).SyncByteStream)
    ours = {"request": _prepare_request, "response": functools.partial(_judge_answer, paced)}
    hooks = {event: [*made.event_hooks[event], hook] for event, hook in ours.items()}
    huggingface_hub.set_client_factory(lambda: kind(event_hooks=hooks, follow_redirects=True, timeout=API_TIMEOUT_S))


def _prepare_request(request: Any) -> None:
    """Every request passes here, also redirects and the next pages of a listing, whose addresses the server names."""
    _keep_token_home(request)
    _limit_waiting(request)


def _keep_token_home(request: Any) -> None:
    """A token is for the host it was made for: the client would send it to whatever host a next page is on."""
    if _server(str(request.url)) != _server(endpoint()):
        request.headers.pop("authorization", None)


def _server(address: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port; the client drops a port that its scheme implies, so it is put in."""
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _limit_waiting(request: Any) -> None:
    waits = request.extensions.get("timeout") or {}
    request.extensions["timeout"] = {step: API_TIMEOUT_S if wait is None else wait for step, wait in waits.items()}


def _judge_answer(paced: Callable[[Any], Any], response: Any) -> None:
    """Raise MayPass for a refusal that may pass: when to try again is decided in one place, for every engine."""
    status = response.status_code
    if status in PASSING or status >= SERVER_ERROR:
        wait_s = wait_asked(response.headers)
        asked = f", come back in {wait_s:,.0f} s" if wait_s else ""
        raise MayPass(f"{response.url.host} answered HTTP {status}{asked}", wait_s=wait_s)
    response.stream = paced(response.stream)


def _paced_stream(base: Any) -> Callable[[Any], Any]:
    """A body of the transport's own kind that ends with an error when it crawls."""

    class Paced(base):
        def __init__(self, stream: Any) -> None:
            self._stream, self._pace = stream, Pace()

        def __iter__(self) -> Iterator[bytes]:
            for block in self._stream:
                self._pace.count(len(block))
                yield block

        def close(self) -> None:
            self._stream.close()

    return Paced


def counting(report: Callable[[int], None]) -> type:
    """A progress bar, as the client wants one, that shows nothing and passes the bytes on."""

    class Counting:
        def __init__(self, *_: object, **__: object) -> None:
            self.n, self.total = 0, None

        def __enter__(self) -> Self:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            """Leave nothing behind."""

        def update(self, n_bytes: float | None = 1) -> None:
            report(int(n_bytes or 0))

        def update_transfer(self, n_bytes: float) -> None:
            """Compressed bytes on the wire (xet): not the file's bytes, so not counted."""

        def set_postfix_str(self, *_: object, **__: object) -> None:
            """Show no speed."""

        set_transfer_postfix_str = refresh = close = set_postfix_str

    return Counting
