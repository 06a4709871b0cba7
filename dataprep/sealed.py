"""Sealed records: JSON of ours that names the sha256 of its own bytes, so that a changed digit in it is found.

In:  a value and a path. Out: its bytes, published; or a record read back, None where it is damaged.
Holds: equal values are equal bytes; a record from before there were seals is read as it was then.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from dataprep.publish import publish_bytes

SEAL = "seal_sha256"
_NO_SEAL = "0" * 64


def publish_json(path: Path, value: Any) -> None:
    """Publish `value` with sorted keys, so that equal values are equal bytes."""
    publish_bytes(path, _as_text(value))


def publish_record(path: Path, value: dict[str, Any]) -> None:
    """Publish `value` as `publish_json` does, sealed: with the sha256 of its own bytes, the seal read as zeros."""
    unsealed = _as_text(value | {SEAL: _NO_SEAL})
    publish_bytes(path, unsealed.replace(_sealed_by(_NO_SEAL), _sealed_by(hashlib.sha256(unsealed).hexdigest()), 1))


def open_record(content: bytes) -> dict[str, Any]:
    """The value of a record's bytes, without its seal. ValueError where it is no JSON object or the seal is broken.

    Records from before there were seals have none, and are read as they were then.
    """
    value = json.loads(content.decode())
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 -- what is wrong is the file
    if (seal := value.pop(SEAL, None)) is not None:
        unsealed = content.replace(_sealed_by(str(seal)), _sealed_by(_NO_SEAL), 1)
        if hashlib.sha256(unsealed).hexdigest() != seal:
            raise ValueError("its bytes are not those its seal names (sha256)")
    elif any(map(_was_the_seal, value)):
        raise ValueError("the name of its seal is damaged")
    return value


def read_json(path: Path) -> dict[str, Any] | None:
    """A record of ours, or None where there is none or it is damaged: both mean "do it again"."""
    try:
        return open_record(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return None


def _as_text(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _sealed_by(sha256: str) -> bytes:
    return f'"{SEAL}": "{sha256}"'.encode()


def _was_the_seal(key: str) -> bool:
    """Whether one character makes this the seal's name: a record that lost its seal so must not pass for an old one."""
    return len(key) == len(SEAL) and sum(a != b for a, b in zip(key, SEAL, strict=True)) == 1
