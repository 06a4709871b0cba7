"""A server for tests: trained runs, or one that says what it is told, on a loopback port, in a thread."""

import asyncio
import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import run_in
from training import here, settle

from dataprep import pack, shards
from dataprep.paths import Paths
from train.sampling import Sampling
from train.serve.app import create_app
from train.serve.desk import Desk
from train.serve.limits import LOOPBACK_NAMES, Limits
from train.serve.listening import address_of, bind, server_of
from train.weights import has_talked, open_model

TALKS = '\n[talks]\nkind = "local"\npath = "talks"\nmessages = "messages"\nholdout = ["shard_00001"]\n'


def train_two(encoded_root: Path, root: Path) -> Path:
    """A root with a run `base` of plain text and a run `chat` of conversations, rows of 256 targets, nano."""
    shutil.copytree(encoded_root, root)
    with (root / "my.toml").open("a") as catalogue:
        catalogue.write(TALKS)
    (root / "talks").mkdir()
    for number in range(2):
        lines = [json.dumps({"messages": _talk(i)}) for i in range(400 - 360 * number)]
        (root / "talks" / f"shard_{number:05d}.jsonl").write_text("\n".join(lines) + "\n")
    catalogue = ("--catalogue", str(root / "my.toml"), "--tokenizer", "tiny-bpe")
    assert run_in(root, shards.main, "--source", "talks", "--n", "1", *catalogue) == 0
    length = ("--seq-len", "256", "--tokenizer", "tiny-bpe")
    assert run_in(root, pack.main, "--mix", "1", "--sources", "alpha", "--name", "texts", *length) == 0
    fit = ("--strategy", "best-fit", "--loss", "assistant", "--attention", "document")
    assert run_in(root, pack.main, "--mix", "1", "--sources", "talks", "--name", "talks", *length, *fit) == 0
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, root)
        quick = ("--batch-tokens", "1024", "--tokens", "10240")
        here("--recipe", "texts", "--run", "base", *quick)
        here("--recipe", "talks", "--run", "chat", *quick)
    return root


def _talk(i: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"mill {i % 7}?"}, {"role": "assistant", "content": "It grinds the text."}]


def desk_of(root: Path, run: str, *, n_waiting: int = 8, wait_s: float = 60.0) -> Desk:
    paths = Paths(root=root)
    opened = open_model(paths, run, None, device=torch.device("cpu"))
    return Desk(opened, talks=has_talked(paths, opened), n_waiting=n_waiting, wait_s=wait_s)


class Scripted:
    """An engine that says word after word, one token each, as fast as it is told to."""

    def __init__(self, desk: Desk, words: list[str], *, seconds: float = 0.0) -> None:
        self.context, self.words, self.seconds = desk._engine.context, words, seconds
        self.n_said, self.samplings = 0, []
        desk._engine = self  # pyright: ignore[reportAttributeAccessIssue]

    def stream(self, _prompt: object, sampling: Sampling) -> Any:
        self.samplings.append(sampling)
        return _ScriptedStream(self, sampling.max_tokens)


class _ScriptedStream:
    def __init__(self, script: Scripted, max_tokens: int) -> None:
        self._script, self._max = script, max_tokens
        self.answer = SimpleNamespace(n_tokens=0, finish="length")

    def __iter__(self) -> Iterator[str]:
        for word in self._script.words[: self._max]:
            time.sleep(self._script.seconds)
            if word == "!":
                raise RuntimeError("the model is out of order")
            self._script.n_said += 1
            self.answer.n_tokens += 1
            yield word
        self.answer.finish = "length" if len(self._script.words) > self._max else "stop"


@contextlib.contextmanager
def serving(*desks: Desk, **limits: Any) -> Iterator[str]:
    """The address of a server of these desks."""
    with bind("127.0.0.1", 0) as listener:
        named: dict[str, Any] = {"names": LOOPBACK_NAMES, "requests_per_minute": 10_000, **limits}
        server = server_of(create_app(desks, Limits(**named)), lambda: [desk.close() for desk in desks])
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            yield address_of(listener)
        finally:
            server.handle_exit(15, None)
            thread.join()


def until(holds: Any, seconds: float = 5.0) -> bool:
    """Whether it comes to hold in this time."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(holds())
