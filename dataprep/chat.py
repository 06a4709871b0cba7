r"""Conversations: rows of messages rendered as text a model can learn from.

In:  `messages` (list of {role, content}, read by name) or `conversations` (alternating strings).
Out: one plain text per row, turns named and set apart by a blank line.
Holds: rendering is a pure function of the row. Roles' own tokens and loss masks are not there yet.

    >>> render([{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}])
    'User: Hi?\n\nAssistant: Hello.'
"""

from collections.abc import Mapping, Sequence
from typing import Any

_ALTERNATING = ("user", "assistant")


def render(row: Sequence[Any] | None) -> str:
    """The text of one conversation; an empty or null one is an empty document."""
    turns = [_turn(position, message) for position, message in enumerate(row or ())]
    return "\n\n".join(f"{role.capitalize()}: {content}" for role, content in turns if content)


def _turn(position: int, message: Mapping[str, Any] | str | None) -> tuple[str, str]:
    if isinstance(message, str):
        return _ALTERNATING[position % 2], message
    message = message or {}
    return str(message.get("role") or "user"), str(message.get("content") or "")
