"""Listening: the socket, and a server that ends when it is told to.

In:  a host and a port. Out: a bound socket; requests answered until Ctrl-C or SIGTERM.
Holds: an address that cannot be had is said before a model is loaded; told to end, it stops what is being said and
       ends at once, with exit code 0.
"""

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from dataprep.errors import EnvironmentProblem

_LEAVE_S = 1  # for answers to be closed, once everything was told to stop


def bind(host: str, port: int) -> socket.socket:
    """A socket at that address, port 0 for any. Raises EnvironmentProblem."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as problem:
        taken = problem.errno == errno.EADDRINUSE
        raise EnvironmentProblem(
            f"cannot listen on {host}:{port}",
            seen=os.strerror(problem.errno) if problem.errno and problem.errno > 0 else str(problem),
            wanted="a free port of this machine",
            fix=f"the same command with --port {port + 1}" if taken else "the same command without --host and --port",
        ) from None


def address_of(listener: socket.socket) -> str:
    """What to type into a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def listen(app: ASGIApp, listener: socket.socket, on_end: Callable[[], None]) -> None:
    """Answer until told to end; `on_end`, called in the event loop, then stops whatever is still being said."""
    asyncio.run(server_of(app, on_end).serve(sockets=[listener]))


def server_of(app: ASGIApp, on_end: Callable[[], None]) -> uvicorn.Server:
    """A server that is not listening yet; its `handle_exit` ends it."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a client does not choose the address it is counted under
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=_LEAVE_S,
    )
    return _Server(config, on_end)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_end: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_end = on_end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers end first: the base class waits for them, and interrupts loudly what is still under way."""
        self._on_end()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- the base class's signature
        """End. The base class would raise the signal once more afterwards, and so spoil the exit code."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
