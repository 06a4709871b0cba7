"""Turns: a batch of conversations as flat arrays, judged and laid out without a Python loop.

In:  an Arrow column of messages or conversations, or messages already read. Out: `Script`.
Holds: what `chat.why_excluded` and `chat.render` say of one conversation, for all of a batch at once.

    documents  [user "Hi", assistant "Yes"], [assistant "No"]
    texts      "Hi", "Yes"                         the second document is left out: roles do not alternate
    slots      user_start HEARD user_end assistant_start SAID assistant_end end
    n_slots    7, 0
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataprep import chat
from dataprep.chat import Message
from dataprep.layouts import is_text
from dataprep.rank_file import CHAT_SPECIALS, END

SLOT_SPECIALS = (END, *CHAT_SPECIALS)  # a slot below HEARD is one of these, by position
HEARD, SAID, NONE = 253, 254, 255  # a text that is not learned, one that is, and no slot at all
_ROLES = (chat.USER, chat.ASSISTANT, chat.SYSTEM)
_KINDS = (chat.TEXT, chat.PYTHON, chat.OUTPUT)
_USER, _ASSISTANT, _SYSTEM, _UNKNOWN = 0, 1, 2, 3
_TEXT, _PYTHON, _OUTPUT = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Script:
    """How a batch's texts become documents: `slots` uint8, `n_slots` int64 and `reasons` per document."""

    texts: pa.LargeStringArray
    slots: np.ndarray
    n_slots: np.ndarray
    reasons: Sequence[str | None]


@dataclass(frozen=True, kw_only=True)
class _Turns:
    """Flat conversations: per part its text and kind, per message its role and parts, per document its messages."""

    texts: pa.LargeStringArray
    kinds: np.ndarray
    roles: np.ndarray
    n_parts: np.ndarray
    n_messages: np.ndarray


def script_of_column(column: pa.Array, layout: str) -> Script:
    """The script of a `messages` or `conversations` column, one document per value."""
    turns = _from_column(column, layout)
    return _write(turns, _judge(turns))


def script_of_messages(documents: Sequence[list[Message] | str]) -> Script:
    """The script of documents already read: messages, or the reason why there are none."""
    read = [[] if isinstance(document, str) else document for document in documents]
    messages = [message for document in read for message in document]
    parts = [part for message in messages for part in message.parts]
    turns = _Turns(
        texts=pa.array([text for _, text in parts], pa.large_string()),
        kinds=np.array([_KINDS.index(kind) for kind, _ in parts], dtype=np.uint8),
        roles=np.array([_ROLES.index(message.role) for message in messages], dtype=np.uint8),
        n_parts=np.array([len(message.parts) for message in messages], dtype=np.int64),
        n_messages=np.array([len(document) for document in read], dtype=np.int64),
    )
    return _write(turns, [document if isinstance(document, str) else None for document in documents])


def as_texts(column: pa.Array) -> pa.LargeStringArray:
    """The column as text without nulls. Raises ArrowInvalid for what is not UTF-8."""
    texts = pc.fill_null(column.cast(pa.large_string()), "")
    texts.validate(full=True)  # Arrow reads string columns without looking: here the UTF-8 is checked
    return texts


def _from_column(column: pa.Array, layout: str) -> _Turns:
    messages, n_messages = column.flatten(), _list_lengths(column)
    positions = np.arange(len(messages)) - np.repeat(np.cumsum(n_messages) - n_messages, n_messages)
    by_turn = (positions % 2).astype(np.uint8)
    if is_text(messages.type):
        roles, contents = by_turn, messages
    elif layout == "messages":
        field = _fields(messages)
        roles, contents = _codes(field["role"], chat.ROLES, _ROLES), field["content"]
    else:
        field = _fields(messages)
        named, contents = _codes(field["from"], chat.SHAREGPT_ROLES, _ROLES), field["value"]
        roles = np.where(messages.is_null().to_numpy(zero_copy_only=False), by_turn, named)  # null may be either form
    if is_text(contents.type):
        texts, n_parts = as_texts(contents), np.ones(len(contents), dtype=np.int64)
        kinds = np.full(len(texts), _TEXT, dtype=np.uint8)
    else:
        parts, n_parts = contents.flatten(), _list_lengths(contents)
        part = _fields(parts)
        texts, kinds = as_texts(part["text"]), _codes(part["type"], chat.PARTS, _KINDS)
    return _Turns(texts=texts, kinds=kinds, roles=roles, n_parts=n_parts, n_messages=n_messages)


def _fields(structs: pa.StructArray) -> dict[str, pa.Array]:
    """Columns by name; those of a null struct are null."""
    return dict(zip([field.name for field in structs.type.fields], structs.flatten(), strict=True))


def _list_lengths(lists: pa.Array) -> np.ndarray:
    return (
        pc.fill_null(pc.call_function("list_value_length", [lists]), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    )


def _codes(column: pa.Array, names: dict[str, str], order: Sequence[str]) -> np.ndarray:
    """For each text the place of what it is called in `order`, `_UNKNOWN` where it is no known name."""
    lookup = pc.SetLookupOptions(value_set=pa.array(list(names), pa.large_string()))
    found = pc.call_function("index_in", [as_texts(column)], lookup)
    codes = np.array([*(order.index(name) for name in names.values()), _UNKNOWN], dtype=np.uint8)
    return codes[pc.fill_null(found, len(names)).to_numpy(zero_copy_only=False)]


def _judge(turns: _Turns) -> list[str | None]:
    """Why each document is left out, as `chat.why_excluded` says it."""
    message_of_part = np.repeat(np.arange(len(turns.roles)), turns.n_parts)
    n_bytes = np.bincount(message_of_part, weights=_lengths(turns.texts), minlength=len(turns.roles))
    is_tool = (turns.kinds == _PYTHON) | (turns.kinds == _OUTPUT)
    holds = {
        chat.UNKNOWN_ROLE: np.flatnonzero(turns.roles == _UNKNOWN),
        chat.UNKNOWN_PART: message_of_part[turns.kinds == _UNKNOWN],
        chat.MISPLACED_TOOL: message_of_part[is_tool & (turns.roles[message_of_part] != _ASSISTANT)],
        chat.EMPTY_CONTENT: np.flatnonzero(n_bytes == 0),
        chat.NOT_ALTERNATING: np.flatnonzero(turns.roles != _expected_roles(turns)),
    }
    reasons: list[str | None] = [None] * len(turns.n_messages)
    document_of_message = np.repeat(np.arange(len(turns.n_messages)), turns.n_messages)
    for reason in reversed(chat.REASONS):  # the first of them is written last
        for document in np.unique(document_of_message[holds[reason]]).tolist() if reason in holds else ():
            reasons[document] = reason
    return reasons


def _expected_roles(turns: _Turns) -> np.ndarray:
    firsts = np.cumsum(turns.n_messages) - turns.n_messages
    has_system = np.zeros(len(turns.n_messages), dtype=np.int64)
    filled = turns.n_messages > 0
    has_system[filled] = turns.roles[firsts[filled]] == _SYSTEM
    places = np.arange(len(turns.roles)) - np.repeat(firsts + has_system, turns.n_messages)
    return np.where(places < 0, _SYSTEM, places % 2)


def _write(turns: _Turns, reasons: list[str | None]) -> Script:
    """One line of six slots per part: turn start, tool start, text, tool end, turn end, end of the document."""
    kept = np.array([reason is None for reason in reasons], dtype=bool)
    document_of_part = np.repeat(np.repeat(np.arange(len(kept)), turns.n_messages), turns.n_parts)
    roles, kinds = np.repeat(turns.roles, turns.n_parts), turns.kinds
    opens, closes, ends = (np.zeros(len(kinds), dtype=bool) for _ in range(3))
    message_ends = np.cumsum(turns.n_parts)
    opens[(message_ends - turns.n_parts)[turns.n_parts > 0]] = True
    closes[message_ends[turns.n_parts > 0] - 1] = True
    ends[-1:] = True
    ends[:-1] = document_of_part[1:] != document_of_part[:-1]
    learned = (roles == _ASSISTANT) & (kinds != _OUTPUT)

    slots = np.full((len(kinds), 6), NONE, dtype=np.uint8)
    slots[:, 0] = np.where(opens, _TURN_START[roles], NONE)
    slots[:, 1] = _TOOL_START[kinds]
    slots[:, 2] = np.where(learned, SAID, HEARD)
    slots[:, 3] = _TOOL_END[kinds]
    slots[:, 4] = np.where(closes, _TURN_END[roles], NONE)
    slots[:, 5] = np.where(ends, SLOT_SPECIALS.index(END), NONE)

    part_is_kept = kept[document_of_part]
    slots[~part_is_kept] = NONE
    n_slots = np.bincount(document_of_part, weights=(slots != NONE).sum(axis=1), minlength=len(kept)).astype(np.int64)
    texts = turns.texts if part_is_kept.all() else turns.texts.filter(pa.array(part_is_kept))
    return Script(texts=texts, slots=slots[slots != NONE], n_slots=n_slots, reasons=reasons)


def _lengths(texts: pa.LargeStringArray) -> np.ndarray:
    return pc.call_function("binary_length", [texts]).to_numpy(zero_copy_only=False)


def _slots(names: Sequence[str], which: str) -> np.ndarray:
    """For each code the special that starts or ends it; `_UNKNOWN`, which is never kept, has none."""
    specials = [f"<|{name}_{which}|>" for name in names]
    found = [SLOT_SPECIALS.index(special) if special in SLOT_SPECIALS else NONE for special in specials]
    return np.array([*found, NONE], dtype=np.uint8)


_TURN_START, _TURN_END = _slots(_ROLES, "start"), _slots(_ROLES, "end")
_TOOL_START, _TOOL_END = _slots(_KINDS, "start"), _slots(_KINDS, "end")
