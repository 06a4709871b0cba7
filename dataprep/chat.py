r"""Chat: the one rule for turning a conversation into ids and a loss mask, said plainly.

In:  messages with a role and parts (text, python, output). Out: ids and, for each, 1 where it is learned.
Holds: roles alternate after one optional system message; text is ordinary text, whatever it spells, so
only this module opens and closes turns; what the assistant did not write is never learned.

    <|user_start|> Hi <|user_end|> <|assistant_start|> 2+2 is <|python_start|> 2+2 <|python_end|>
         0         0       0               0              1          1          1        1
    <|output_start|> 4 <|output_end|> 4 <|assistant_end|> <|endoftext|>
           0         0       0        1        1               0

`turns.py` does the same for a thousand conversations at once; this slow path is its oracle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataprep.errors import UsageError
from dataprep.rank_file import END
from dataprep.vocab import Vocab

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
TEXT, PYTHON, OUTPUT = "text", "python", "output"
UNKNOWN = ""  # a role or a part that is none of these
ROLES = {USER: USER, ASSISTANT: ASSISTANT, SYSTEM: SYSTEM}
SHAREGPT_ROLES = {"human": USER, USER: USER, "gpt": ASSISTANT, ASSISTANT: ASSISTANT, SYSTEM: SYSTEM}
PARTS = {TEXT: TEXT, PYTHON: PYTHON, OUTPUT: OUTPUT, "python_output": OUTPUT}

# Why a conversation is left out. Where several hold, the first of this list is the one that is counted.
UNKNOWN_ROLE = "unknown role"
UNKNOWN_PART = "unknown part"
MISPLACED_TOOL = "tool part outside an assistant's turn"
EMPTY_CONTENT = "empty content"
NOT_ALTERNATING = "roles do not alternate"
MALFORMED_CHOICES, MALFORMED_ANSWER = "malformed choices", "malformed answer"
REASONS = (
    *(UNKNOWN_ROLE, UNKNOWN_PART, MISPLACED_TOOL, EMPTY_CONTENT, NOT_ALTERNATING),
    *(MALFORMED_CHOICES, MALFORMED_ANSWER),
)


@dataclass(frozen=True)
class Message:
    """One turn: who speaks, and (kind, text) pieces in order."""

    role: str
    parts: tuple[tuple[str, str], ...]


def read_messages(values: Sequence[Any] | None) -> list[Message]:
    """Messages of a list of {role, content}; a content is a text or a list of {type, text}."""
    fields = [value if isinstance(value, Mapping) else {} for value in values or ()]
    return [Message(_known(ROLES, field.get("role")), _parts(field.get("content"))) for field in fields]


def read_conversation(values: Sequence[Any] | None) -> list[Message]:
    """Messages of a list of texts, user first and alternating, or of {from, value}."""
    messages = []
    for position, value in enumerate(values or ()):
        if isinstance(value, Mapping):
            messages.append(Message(_known(SHAREGPT_ROLES, value.get("from")), _parts(value.get("value"))))
        else:
            messages.append(Message((USER, ASSISTANT)[position % 2], _parts(value)))
    return messages


def why_excluded(messages: Sequence[Message]) -> str | None:
    """The reason why a conversation cannot be learned from, or None."""
    n_system = int(bool(messages) and messages[0].role == SYSTEM)
    turns = [message.role for message in messages[n_system:]]
    parts = [(message, kind) for message in messages for kind, _ in message.parts]
    holds = {
        UNKNOWN_ROLE: any(message.role == UNKNOWN for message in messages),
        UNKNOWN_PART: any(kind == UNKNOWN for _, kind in parts),
        MISPLACED_TOOL: any(message.role != ASSISTANT and kind in {PYTHON, OUTPUT} for message, kind in parts),
        EMPTY_CONTENT: any(not any(text for _, text in message.parts) for message in messages),
        NOT_ALTERNATING: turns != [(USER, ASSISTANT)[position % 2] for position in range(len(turns))],
    }
    return next((reason for reason in REASONS if holds.get(reason)), None)


def render(vocab: Vocab, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """Ids and loss of a conversation, its end token included; nothing for one without messages."""
    ids, loss = [], []
    for message in messages:
        for new_ids, learned in _pieces(vocab, message):
            ids += new_ids
            loss += [int(learned)] * len(new_ids)
    return ([*ids, vocab.specials[END]], [*loss, 0]) if messages else ([], [])


def prompt_ids(vocab: Vocab, messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """Ids that ask the model for the next turn: they end with <|assistant_start|>.

    The end token that opens every document is not among them: whoever samples puts it in front.
    Raises UsageError for messages that a conversation cannot have, or where it is not the assistant's turn.

    >>> prompt_ids(gpt2, [{"role": "user", "content": "Hi"}])
    [50257, 17250, 50258, 50259]
    """
    read = read_messages(messages)
    reason = why_excluded(read) or (None if read and read[-1].role == USER else "it is not the assistant's turn")
    if reason:
        raise UsageError(
            "the model cannot be asked with these messages",
            seen=reason,
            wanted="user, assistant, user, … after one optional system message, and a user's turn at the end",
            fix='[{"role": "user", "content": "…"}]',
        )
    ids, _ = render(vocab, read)
    return [*ids[:-1], vocab.specials["<|assistant_start|>"]]


def _pieces(vocab: Vocab, message: Message) -> list[tuple[list[int], bool]]:
    """Runs of ids of one turn, and whether each is learned."""
    said = message.role == ASSISTANT
    pieces = [([vocab.specials[f"<|{message.role}_start|>"]], False)]
    for kind, text in message.parts:
        ids = vocab.encode_ordinary(text)
        if kind != TEXT:
            ids = [vocab.specials[f"<|{kind}_start|>"], *ids, vocab.specials[f"<|{kind}_end|>"]]
        pieces.append((ids, said and kind != OUTPUT))
    return [*pieces, ([vocab.specials[f"<|{message.role}_end|>"]], said)]


def _known(names: Mapping[str, str], value: Any) -> str:
    return names.get(value, UNKNOWN) if isinstance(value, str) else UNKNOWN


def _parts(content: Any) -> tuple[tuple[str, str], ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return ((TEXT, content),)
    return tuple(map(_part, content)) if isinstance(content, list) else ((UNKNOWN, ""),)


def _part(value: Any) -> tuple[str, str]:
    kind, text = (value.get("type"), value.get("text")) if isinstance(value, Mapping) else (None, None)
    return (_known(PARTS, kind), text or "") if isinstance(text, str | None) else (UNKNOWN, "")
