r"""The terminal of a talk: a person's message in, the model's words out, and nothing that steers the screen.

In:  lines from a function such as `input`; text that a model wrote. Out: a message; text that is safe to print.
Holds: control characters, escape sequences and changes of direction are spelled out; line breaks and tabs stay.
    safe("red \x1b[31m") == "red \\x1b[31m"
    the lines  a\   b      are the message "a\nb";  so are the lines between two of three quotes
"""

import io
import sys
import unicodedata
from collections.abc import Callable

from dataprep.decoded import DIM, PLAIN
from dataprep.errors import visible

_MORE = "… "
_BLOCK = '"""'
_JOINERS = "\u200c\u200d"  # of letters in some scripts, and of emoji: invisible, and harmless


def safe(text: str) -> str:
    """The text with everything spelled out that could steer a terminal."""
    return "".join(c if _is_harmless(c) else visible(c) for c in text)


def read_message(ask: Callable[[str], str], prompt: str) -> str:
    """One message. A line that ends in a backslash goes on in the next; lines between three quotes are one message."""
    line = ask(prompt)
    if line.startswith(_BLOCK):
        return _read_block(ask, line.removeprefix(_BLOCK))
    lines = [line]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1].removesuffix("\\")
        lines.append(ask(_MORE))
    return "\n".join(lines)


def dim(text: str) -> str:
    """A side remark: dim on a terminal, plain elsewhere."""
    return f"{DIM}{text}{PLAIN}" if sys.stdout.isatty() else text


def never_fail_on_text() -> None:
    """Characters that the terminal's encoding has not are replaced, in both directions."""
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _read_block(ask: Callable[[str], str], line: str) -> str:
    lines = [line]
    while not lines[-1].endswith(_BLOCK):
        lines.append(ask(_MORE))
    lines[-1] = lines[-1].removesuffix(_BLOCK)
    return "\n".join(lines).strip("\n")


def _is_harmless(c: str) -> bool:
    return c.isprintable() or c in "\n\t" or c in _JOINERS or unicodedata.category(c) == "Zs"
