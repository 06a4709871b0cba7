"""Sealed lines: JSON lines that carry the crc32 of themselves, so that a changed digit in a journal is found.

In:  a record's line; a file's bytes. Out: the line with its crc32 as last key; the lines without it, and a torn tail.
Holds: a file is sealed from its first line on, or was begun before there were seals: then a line without one is whole.
{"kind": "mark", "attempt": 1}  →  {"kind": "mark", "attempt": 1, "crc32": "0f3bbd0c"}
"""

import re
import zlib

_EXAMPLE = b', "crc32": "00000000"}'
_SEAL = re.compile(rb', "crc32": "([0-9a-f]{8})"}$')


def seal_line(line: bytes) -> bytes:
    """A JSON object's line, with the crc32 of what it was before."""
    return line[:-1] + b', "crc32": "%08x"}' % zlib.crc32(line)


def split_lines(content: bytes) -> tuple[list[bytes], str | None]:
    """Whole lines without their seals, and what a crash left of a last one. A changed line is no JSON any more."""
    *lines, tail = content.split(b"\n")
    sealed = bool(lines) and _SEAL.search(lines[0]) is not None
    return [_unsealed(line, sealed=sealed) for line in lines], tail.decode(errors="replace") or None


def _unsealed(line: bytes, *, sealed: bool) -> bytes:
    found = _SEAL.search(line)
    if found is None:
        return b"not sealed: " + line if sealed or _was_sealed(line) else line
    body = line[: found.start()] + b"}"
    return body if zlib.crc32(body) == int(found[1], 16) else b"changed: " + line


def _was_sealed(line: bytes) -> bool:
    """Whether one character makes a seal of its end: a first line that lost it so must not pass for an old one."""
    if len(line) < len(_EXAMPLE) or not line.endswith(b'"}'):  # or it is no JSON; and most old lines end otherwise
        return False
    changed = [(a, b) for a, b in zip(line[-len(_EXAMPLE) :], _EXAMPLE, strict=True) if a != b]
    return sum(b != ord("0") or a not in b"0123456789abcdef" for a, b in changed) <= 1
