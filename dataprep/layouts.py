r"""Layouts: what the columns of a source must hold, and one document's values read as messages.

In:  column types, or the plain values of one document. Out: a refusal, or messages, or why there are none.
Holds: struct fields are found by name, others are ignored; a null document has no messages.

    question "2+3?", answer "It is <<2+3=5>>5."
        user "2+3?"; assistant: text "It is ", python "2+3", output "5", text "5."
    question "Which is odd?", choices ["4", "7"], answer 1
        user "Which is odd?\nA. 4\nB. 7\nAnswer with the letter."; assistant "B"
"""

import re
import string
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from dataprep import chat
from dataprep.chat import Message

# gsm8k's calculations, cut at the last "="; any other angle brackets are ordinary text.
_CALCULATION = re.compile(r"<<([^<>]+)=([^<>=]+)>>")
_LETTERS = string.ascii_uppercase
# A letter that opens a line is the very token that the answer is: " A" would be another one.
_MULTIPLE_CHOICE = "{question}\n{choices}\nAnswer with the letter."


def read_document(layout: str, values: Sequence[Any]) -> list[Message] | str:
    """Messages of one document from its columns' values, none where all are null; or why it is left out."""
    if all(value is None for value in values):
        return []
    messages = _READERS[layout](*values)
    return messages if isinstance(messages, str) else chat.why_excluded(messages) or messages


def wanted_type(layout: str, key: str, found: pa.DataType) -> str | None:
    """What the column named by `key` must hold where a column of type `found` does not; None where it fits."""
    fits, wanted = _COLUMNS[layout, key]
    return None if fits(found) else wanted


def wanted_value(layout: str, key: str, found: Any) -> str | None:
    """The same for a plain value, as JSON has it."""
    wanted = _COLUMNS[layout, key][1]
    kinds = list if wanted.startswith("a list") else str | int if "index" in wanted else str
    return None if found is None or isinstance(found, kinds) else wanted


def is_text(found: pa.DataType) -> bool:
    """Whether a column of type `found` holds text; bytes do, if they are UTF-8."""
    if pa.types.is_dictionary(found):
        found = found.value_type
    is_string = pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found)
    return is_string or pa.types.is_binary(found) or pa.types.is_large_binary(found)


def _read_question(question: Any, answer: Any) -> list[Message]:
    parts, end, answer = [], 0, answer or ""
    for match in _CALCULATION.finditer(answer):
        parts += [(chat.TEXT, answer[end : match.start()]), (chat.PYTHON, match[1]), (chat.OUTPUT, match[2])]
        end = match.end()
    parts.append((chat.TEXT, answer[end:]))
    spoken = tuple(part for part in parts if part[1])
    return [Message(chat.USER, ((chat.TEXT, question or ""),)), Message(chat.ASSISTANT, spoken)]


def _read_choices(question: Any, choices: Any, answer: Any) -> list[Message] | str:
    if not choices or len(choices) > len(_LETTERS) or not all(isinstance(c, str) and c for c in choices):
        return chat.MALFORMED_CHOICES
    letters = _LETTERS[: len(choices)]
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(letters):
        answer = letters[answer]
    if not isinstance(answer, str) or len(answer) != 1 or answer not in letters:
        return chat.MALFORMED_ANSWER
    if not question:
        return chat.EMPTY_CONTENT
    lines = "\n".join(f"{letter}. {choice}" for letter, choice in zip(letters, choices, strict=True))
    asked = _MULTIPLE_CHOICE.format(question=question, choices=lines)
    return [Message(chat.USER, ((chat.TEXT, asked),)), Message(chat.ASSISTANT, ((chat.TEXT, answer),))]


def _is_list_of(found: pa.DataType, fits: Callable[[pa.DataType], bool]) -> bool:
    is_list = pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found)
    return is_list and fits(found.value_type)


def _is_struct_of(found: pa.DataType, **fits: Callable[[pa.DataType], bool]) -> bool:
    """A struct with these fields, in any order and among any others."""
    fields = {field.name: field.type for field in found.fields} if pa.types.is_struct(found) else {}
    return all(name in fields and fit(fields[name]) for name, fit in fits.items())


def _is_content(found: pa.DataType) -> bool:
    return is_text(found) or _is_list_of(found, lambda part: _is_struct_of(part, type=is_text, text=is_text))


def _is_message(found: pa.DataType) -> bool:
    return _is_struct_of(found, role=is_text, content=_is_content)


def _is_turn(found: pa.DataType) -> bool:
    return is_text(found) or _is_struct_of(found, **{"from": is_text, "value": is_text})


_READERS: dict[str, Callable[..., list[Message] | str]] = {
    "messages": chat.read_messages,
    "conversations": chat.read_conversation,
    "question": _read_question,
    "choices": _read_choices,
}
_COLUMNS: dict[tuple[str, str], tuple[Callable[[pa.DataType], bool], str]] = {
    ("text", "text"): (is_text, "text"),
    ("messages", "messages"): (lambda found: _is_list_of(found, _is_message), "a list of {role, content}"),
    ("conversations", "conversations"): (
        lambda found: _is_list_of(found, _is_turn),
        "a list of texts or of {from, value}",
    ),
    ("question", "question"): (is_text, "text"),
    ("question", "answer"): (is_text, "text"),
    ("choices", "question"): (is_text, "text"),
    ("choices", "choices"): (lambda found: _is_list_of(found, is_text), "a list of texts"),
    ("choices", "answer"): (lambda found: pa.types.is_integer(found) or is_text(found), "an index or a letter"),
}
