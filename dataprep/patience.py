"""Patience: how long a server is waited for, and what may pass when it is asked again.

In:  bytes as they arrive, the headers of a refusal. Out: TimeoutError for a crawl, the wait a server asks for.
Holds: nothing waits for ever. A limit on silence is not enough: one byte a minute is never silent.
"""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

WINDOW_S = 60  # a transfer is judged by what came in so long
SLOWEST_BYTES_PER_S = 10_000  # 100 MB in three hours: below this another try costs less than waiting
_QUERY = re.compile(r"""\?[^\s()<>"'=]+=[^\s()<>"']*""")  # ?X-Amz-Signature=…&…
LOGIN = re.compile(r"(?<=://)[^/\s]*@")  # me:secret@
_SPENT = re.compile(r";\s*r=0\s*;\s*t=(\d{1,9})")  # "resolvers";r=0;t=55: nothing is left for 55 s


class MayPass(Exception):  # noqa: N818 -- it is a verdict on an error, not one for the reader
    """Something that may pass when tried again; its text is the reason, one line, without what opens an address.

    A Hub sends us on to signed addresses, and a mirror may have a password; clients quote both.
    `wait_s` is how long the server asked to be left alone.
    """

    def __init__(self, reason: object, *, wait_s: float = 0.0) -> None:
        text = _QUERY.sub("?…", LOGIN.sub("", str(reason).strip())) or type(reason).__name__
        super().__init__(text.splitlines()[0][:200])
        self.wait_s = wait_s


class Pace:
    """The speed of one transfer, from when this is made."""

    def __init__(self) -> None:
        self._since_s, self._n_bytes = time.monotonic(), 0

    def count(self, n_bytes: int) -> None:
        """Some bytes came. Raises TimeoutError where too few did since the window began."""
        self._n_bytes += n_bytes
        elapsed_s = time.monotonic() - self._since_s
        if elapsed_s < WINDOW_S:
            return
        if self._n_bytes < SLOWEST_BYTES_PER_S * elapsed_s:
            raise TimeoutError(
                f"{self._n_bytes:,} bytes in {elapsed_s:.0f} s, slower than {SLOWEST_BYTES_PER_S:,} a second"
            )
        self._since_s, self._n_bytes = time.monotonic(), 0


def wait_asked(headers: Mapping[str, str]) -> float:
    """Seconds that a refusal asks to wait, by Retry-After (a number or a date) or the Hub's RateLimit; else 0."""
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    if spent := _SPENT.search(lower.get("ratelimit", "")):
        return float(spent[1])
    text = lower.get("retry-after", "")
    if text.isdecimal():
        return float(text[:9])  # thirty years will do
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date; or one without a zone
        return 0.0
