"""The embedded corpus: two sources built from the Python installation, as ordinary parquet shards.

In:  a source name, `python-docs` or `python-qa`, and the folder its shards live in.
Out: `shard_00000.parquet`, …, with the columns of the real data sets, for what is missing there.
Holds: one installation gives the same bytes on every call; what is held out of python-qa is
held out of python-docs too, because a document's name alone decides its shard.

Names are hashed to 0…99 and cut at fixed places: python-docs at 25, 50, 75; python-qa at 90.
So `textwrap` (say 93) and every question about it are in the last shard of both.
"""

import hashlib
from bisect import bisect_right
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dataprep.publish import publishing
from dataprep.python_docs import read_modules, read_topics
from dataprep.python_qa import Conversation, converse
from dataprep.temps import sweep

_CUTS = {"python-docs": (25, 50, 75), "python-qa": (90,)}  # the last shard is the catalogue's holdout
_ROW_GROUP_ROWS = 1024
_ZSTD_LEVEL = 3
_DOCS_SCHEMA = pa.schema([("text", pa.string())])
_MESSAGE = pa.struct([("content", pa.string()), ("role", pa.string())])
_QA_SCHEMA = pa.schema([("messages", pa.list_(_MESSAGE)), ("source", pa.string())])
_Row = dict[str, object]


def list_shards(source_name: str) -> list[str]:
    """File names of the source's shards: `shard_00000.parquet`, …."""
    return [f"shard_{number:05d}.parquet" for number in range(len(_CUTS[source_name]) + 1)]


def build(source_name: str, folder: Path) -> None:
    """Publish the shards that `folder` lacks; those it has are kept as they are.

    Raises EnvironmentProblem where the installation has no module sources.
    """
    sweep(folder)
    missing = [number for number, name in enumerate(list_shards(source_name)) if not (folder / name).exists()]
    if not missing:
        return
    shards = _deal(source_name, _docs_rows() if source_name == "python-docs" else _qa_rows())
    schema = _DOCS_SCHEMA if source_name == "python-docs" else _QA_SCHEMA
    for number in missing:
        with publishing(folder / list_shards(source_name)[number]) as out:
            table = pa.Table.from_pylist(shards[number], schema=schema)
            pq.write_table(
                table, out, row_group_size=_ROW_GROUP_ROWS, compression="zstd", compression_level=_ZSTD_LEVEL
            )


def _docs_rows() -> list[tuple[str, str, _Row]]:
    """(origin, name, row) of every document."""
    return [(document.name, document.name, {"text": document.text}) for document in (*read_modules(), *read_topics())]


def _qa_rows() -> list[tuple[str, str, _Row]]:
    conversations = converse(read_modules(), read_topics())
    return [(conversation.origin, conversation.name, _qa_row(conversation)) for conversation in conversations]


def _qa_row(conversation: Conversation) -> _Row:
    roles = ("user", "assistant") * (len(conversation.turns) // 2)
    messages = [{"content": turn, "role": role} for turn, role in zip(conversation.turns, roles, strict=True)]
    return {"messages": messages, "source": conversation.kind}


def _deal(source_name: str, rows: list[tuple[str, str, _Row]]) -> list[list[_Row]]:
    """Rows by shard: the origin's hash says which, the name's hash says where in it."""
    cuts = _CUTS[source_name]
    shards: list[list[_Row]] = [[] for _ in range(len(cuts) + 1)]
    for origin, _, row in sorted(rows, key=lambda row: _digest(row[1])):
        shards[bisect_right(cuts, _percent(origin))].append(row)
    return shards


def _percent(name: str) -> int:
    return int.from_bytes(_digest(name)[:8], "big") % 100


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
