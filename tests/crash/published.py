"""What a root says to whoever reads it: every published file, the ledger, the database; and where two roots differ.

In:  a root. Out: {name: value}, equal for two roots exactly when nobody could tell one from the other.
Holds: only what must differ is left out: clock times, which attempt did it, temps and locks. A journal is told as its
       ledger: the steps that are in the weights. The database is told as a sorted export of every table.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataprep import manifest
from dataprep.foreign_folder import RECORD
from dataprep.ledger import TRASH_RECEIPT, read_journal, steps_with_weights
from dataprep.paths import CHECKPOINTS, JOURNAL, Paths
from train.step_folders import list_checkpoints

CLAIM = "an export says that it is under way"
_LOCKS = {".quern-export.lock", ".tokens.lock", ".pack.lock", ".runs.lock", ".lock"}
_BY_ATTEMPT = {("ancestor_rows",), ("seen_tokens",)}  # told by the view `seen`, which adds them up
_SEEN = "SELECT run, source, shard, tokens_seen FROM seen ORDER BY ALL"
_TIMES = "started_at|ended_at|trashed_at|attempt|seconds|tokens_per_s|mfu|vram_allocated|vram_reserved"
_OF_A_STEP = ("step", "row_from", "row_to", "tokens", "loss_tokens", "loss", "lr", "grad_norm")


def published(root: Path) -> dict[str, Any]:
    """Everything under a final name, without the database."""
    files = [file for file in root.rglob("*") if file.is_file() and _is_final(file.relative_to(root))]
    older = _older_checkpoints(root)
    return {str(file.relative_to(root)): _told(file) for file in files if file.parent not in older}


def exported(root: Path, *, rebuilt: bool) -> dict[str, Any]:
    """Every table of tokens.db, sorted; made anew first where the command under test does not do it."""
    import duckdb

    paths = Paths(root=root)
    if rebuilt:
        assert manifest.rebuild(paths).notes == ()
    if not paths.database.exists():
        return {}
    told: dict[str, Any] = {}
    with duckdb.connect(str(paths.database), read_only=True) as connection:
        tables = connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY ALL").fetchall()
        told["tokens.db: seen"] = connection.execute(_SEEN).fetchall()
        for (table,) in set(tables) - _BY_ATTEMPT:
            kept = "WHERE in_weights" if table == "steps" else ""
            # A checkpoint whose attempt was killed before its next is journaled again, the same to the bit.
            distinct = "DISTINCT" if table == "checkpoints" else ""
            columns = f"COLUMNS(lambda name: NOT regexp_full_match(name, '{_TIMES}'))"
            lines = f"SELECT {distinct} {columns} FROM {table} {kept} ORDER BY ALL"
            told[f"tokens.db: {table}"] = connection.execute(lines).fetchall()
    return told


def temps(root: Path) -> list[str]:
    """What a killed writer left and nobody swept."""
    return sorted(str(temp.relative_to(root)) for temp in root.rglob(".*.part"))


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The names that only one of two roots has, or whose values differ."""
    absent = object()
    return sorted(
        f"{name}: {'lost' if name not in found else 'new' if name not in wanted else 'changed'}"
        for name in {*found, *wanted}
        if found.get(name, absent) != wanted.get(name, absent)
    )


def _is_final(file: Path) -> bool:
    temp = any(part.startswith(".") and part.endswith(".part") for part in file.parts)
    return not temp and file.name not in _LOCKS and not file.name.startswith("tokens.db")


def _older_checkpoints(root: Path) -> set[Path]:
    """Of a run's checkpoints the newest is compared; which older ones are left depends on where it was killed."""
    return {older for folder in root.rglob(CHECKPOINTS) for older in list_checkpoints(folder)[:-1]}


def _told(file: Path) -> Any:
    if file.name == JOURNAL:
        steps = [step for step in steps_with_weights(read_journal(file).records) if step["in_weights"]]
        return [[step.get(key) for key in _OF_A_STEP] for step in steps]
    if file.name == TRASH_RECEIPT:
        return {key: value for key, value in json.loads(file.read_bytes()).items() if not key.endswith("_at")}
    if file.name == RECORD and not json.loads(file.read_bytes())["complete"]:
        return CLAIM
    return hashlib.sha256(file.read_bytes()).hexdigest()
