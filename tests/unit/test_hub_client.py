"""The Hub's client, made once: whoever made it again would close the one that others download with."""

import functools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from dataprep import hub_client


def test_downloads_that_begin_at_once_prepare_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a listing is held and four fetchers start: a client closed under them ended one in a traceback."""
    made = []

    def prepare() -> None:
        time.sleep(0.02)
        made.append(1)

    monkeypatch.setattr(hub_client, "_prepare_once", functools.cache(prepare))
    with ThreadPoolExecutor(4) as fetchers:
        for done in [fetchers.submit(hub_client.prepare_client) for _ in range(4)]:
            done.result()
    assert made == [1]
