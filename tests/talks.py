"""A source with roles: conversations, some of them empty or left out, encoded by the real verb."""

import json
from pathlib import Path
from typing import Any

from conftest import run_in

from dataprep import shards

_GOOD = [{"role": "user", "content": "the mill?"}, {"role": "assistant", "content": "It grinds in the mill."}]
_TALKS: list[Any] = [_GOOD, [], _GOOD[:1], None, _GOOD[1:], _GOOD]  # empty, unsupervised, empty, left out


def write_talk_source(root: Path) -> None:
    """`talks`: shard_00000 with empty documents, shard_00001 held out and without; added to root/my.toml."""
    (root / "talks").mkdir()
    for shard, talks in (("shard_00000", _TALKS), ("shard_00001", [_GOOD, _GOOD])):
        lines = [json.dumps({"messages": talk}) + "\n" for talk in talks]
        (root / f"talks/{shard}.jsonl").write_text("".join(lines))
    with (root / "my.toml").open("a") as catalogue:
        catalogue.write('[talks]\nkind = "local"\npath = "talks"\nmessages = "messages"\nholdout = ["shard_00001"]\n')
    asked = ["--source", "talks", "--n", "1", "--catalogue", str(root / "my.toml"), "--tokenizer", "tiny-bpe"]
    assert run_in(root, shards.main, *asked) == 0
