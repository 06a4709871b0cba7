"""Plain addresses: the bytes behind a URL, by parallel ranges where the server has them.

In:  a URL, headers, a target file nobody else looks at. Out: that file, unverified: `raw` judges it.
Holds: a token stays at the scheme, host and port it is for, whatever a redirect says.
A stall ends, and so does a crawl. hf_transfer keeps the interpreter's lock and waits for ever on a silent server
(both measured on 0.1.9), so it runs in a child process that a kernel alarm ends. Whatever may pass
when tried again is raised as MayPass, whatever will not as DataError.
Run: `python -m dataprep.urls` is that child; a request on stdin, byte counts on stdout.
"""

import http.client
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

from dataprep.errors import DataError, run
from dataprep.patience import MayPass, Pace, wait_asked

STALL_S = 60  # without one finished block; the slowest line that still counts as moving is 280 kB/s
_Report = Callable[[int], None]
_Refused = Callable[[int], DataError]
_CONNECTIONS, _BLOCK_BYTES = 8, 2 << 20
DENIED, PASSING, SERVER_ERROR = (401, 403), (408, 425, 429), 500
_PARTIAL = 206
_FOUND = range(300, 400)
_AUTHORIZATION = "authorization"


def download(url: str, target: Path, *, headers: Mapping[str, str], refused: _Refused, report: _Report) -> None:
    """Write what `url` holds to `target`; `report` gets the bytes of each block as they arrive.

    `refused` makes the error for a 4xx, from the status: only the caller knows what helps there.
    Raises MayPass (cut, stall, crawl, 5xx, another version meanwhile) or what `refused` made.
    """
    version, found_at = _probe_ranges(url, headers, refused)
    if version is None:
        _download_stream(url, target, headers, refused, report)
        return
    _download_ranges(found_at, target, _headers_for(found_at, url, headers), report)
    if target.stat().st_size != version.n_bytes:
        raise MayPass(f"{target.stat().st_size:,} bytes came, the server has {version.n_bytes:,}")
    if _probe_ranges(url, headers, refused)[0] != version:
        raise MayPass("the file changed on the server while it came")  # its ranges may be of both


class _Version(NamedTuple):
    """By what a server tells one content of an address from the next."""

    n_bytes: int
    etag: str | None
    modified: str | None


def _probe_ranges(url: str, headers: Mapping[str, str], refused: _Refused) -> tuple[_Version | None, str]:
    """What the server has, from asking for one byte of it, None where it has no ranges; and where redirects ended.

    The cheapest way to a clear answer: hf_transfer would say "No content length" to a page or an error.
    """
    with _open(url, {**headers, "range": "bytes=0-0"}, refused) as response:
        total = (response.headers.get("content-range") or "").rpartition("/")[2]
        if response.status != _PARTIAL or not total.isdecimal():
            return None, response.url
        return _Version(int(total), response.headers.get("etag"), response.headers.get("last-modified")), response.url


def _headers_for(found_at: str, url: str, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Without the token where `found_at` is elsewhere: hf_transfer looks at host names alone.

    It would carry a token to another port of the same host, and from https to plain http (0.1.9).
    """
    if urlsplit(found_at)[:2] == urlsplit(url)[:2]:
        return headers
    return {name: value for name, value in headers.items() if name.lower() != _AUTHORIZATION}


def _open(url: str, headers: Mapping[str, str], refused: _Refused) -> http.client.HTTPResponse:
    request = urllib.request.Request(url)  # noqa: S310 -- the catalogue admits http and https only
    for name, value in headers.items():
        # A token is for the host it was made for: urllib would carry it through a redirect.
        add = request.add_unredirected_header if name.lower() == _AUTHORIZATION else request.add_header
        add(name, value)
    try:
        return urllib.request.urlopen(request, timeout=STALL_S)  # noqa: S310 -- as above
    except urllib.error.HTTPError as error:
        with error:
            _judge(url, error, refused)
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise MayPass(f"{url}: {error}") from error


def _judge(url: str, error: urllib.error.HTTPError, refused: _Refused) -> NoReturn:
    if error.code in _FOUND:
        raise MayPass(f"{url} redirects in a circle, or to nowhere (HTTP {error.code})")
    if error.code in PASSING or error.code >= SERVER_ERROR:
        wait_s = wait_asked(dict(error.headers))
        asked = f", come back in {wait_s:,.0f} s" if wait_s else ""
        raise MayPass(f"{url} answered HTTP {error.code}{asked}", wait_s=wait_s)
    raise refused(error.code)


def _download_stream(url: str, target: Path, headers: Mapping[str, str], refused: _Refused, report: _Report) -> None:
    with _open(url, headers, refused) as response, target.open("wb") as file:
        promised, n_bytes, pace = response.length, 0, Pace()
        while block := _read(response, pace):
            file.write(block)
            n_bytes += len(block)
            report(len(block))
    if promised is not None and n_bytes != promised:
        raise MayPass(f"cut after {n_bytes:,} of {promised:,} bytes")


def _read(response: http.client.HTTPResponse, pace: Pace) -> bytes:
    try:
        block = response.read1(_BLOCK_BYTES)  # what is there, not a full block: a crawl would never fill it
        pace.count(len(block))
    except (OSError, http.client.HTTPException) as error:
        raise MayPass(error) from error
    return block


def _download_ranges(url: str, target: Path, headers: Mapping[str, str], report: _Report) -> None:
    command = [sys.executable, "-m", "dataprep.urls"]
    request = {"url": url, "target": str(target), "headers": dict(headers), "stall_s": STALL_S}
    with subprocess.Popen(  # noqa: S603 -- our own interpreter and module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        try:
            reason = _follow(child, json.dumps(request), report)
            code = child.wait()
        finally:
            child.kill()  # nothing where it has ended; a reader interrupted here must not wait for it
    if code == -signal.SIGINT:
        raise KeyboardInterrupt
    if code != 0:
        raise MayPass(f"no block of {_BLOCK_BYTES:,} bytes in {STALL_S} s" if code == -signal.SIGALRM else reason)


def _follow(child: subprocess.Popen[str], request: str, report: _Report) -> str:
    """Pass on the byte counts; the last line that is none is the child's complaint."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(request)  # by stdin: a token has no place in a process list
    child.stdin.close()
    reason = "the transfer ended without a word"
    for line in child.stdout:
        if line.strip().isdigit():
            report(int(line))
        elif line.strip():
            reason = line
    return reason


def _child() -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's handler never gets its turn while the lock is held
    request = json.loads(sys.stdin.read())
    try:
        _transfer(request["url"], request["target"], request["headers"], request["stall_s"])
    except Exception as error:  # noqa: BLE001 -- hf_transfer raises the base class itself
        print(str(error).replace("\n", " "))
        return 1
    return 0


def _transfer(url: str, target: str, headers: dict[str, str], stall_s: int) -> None:
    import hf_transfer

    def tell(n_bytes: int) -> None:
        signal.alarm(stall_s)
        print(n_bytes, flush=True)

    signal.alarm(stall_s)
    hf_transfer.download(  # pyright: ignore[reportAttributeAccessIssue] -- compiled, and without stubs
        url, target, _CONNECTIONS, _BLOCK_BYTES, parallel_failures=3, max_retries=5, headers=headers, callback=tell
    )
    signal.alarm(0)


if __name__ == "__main__":
    run(_child)
