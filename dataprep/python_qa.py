"""Questions and answers about the Python installation, made from its docstrings and topics.

In:  `Document` values of module sources and topics (python_docs.py).
Out: `Conversation` values: two turns, or four where a function's arguments are asked for as well.
Holds: sources are parsed, never imported; only public names are asked about, and once; no answer twice.
Example: user "What does textwrap.dedent do?", assistant "Remove any common leading whitespace …",
user "Which arguments does it take?", assistant "textwrap.dedent(text)".
"""

import ast
import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dataprep.python_docs import Document

# The name chooses the wording: the same question every time, and some variety over all.
_WORDINGS = {
    "module": ("What is the {} module for?", "What does the module {} provide?", "Tell me about Python's {} module."),
    "class": ("What is {}?", "What does the class {} do?", "Describe the class {}."),
    "function": ("What does {} do?", "What is {} for?", "How does {} work?", "Explain {}."),
    "arguments": ("What are its arguments?", "Which arguments does it take?", "How do I call it?"),
    "topic": ("What does the Python manual say about {}?", "Explain this part of Python: {}.", "Teach me about {}."),
}
_LONGEST_TOPIC = 8_000  # characters; a longer one is a chapter, not an answer (python-docs has it)
_RECEIVER = re.compile(r"^(self|cls)(, /)?(, |$)")  # callers do not write it
_Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Turns of user and assistant, about `name`, made from the document called `origin`."""

    origin: str
    name: str
    kind: str
    turns: tuple[str, ...]


def converse(modules: Sequence[Document], topics: Sequence[Document]) -> list[Conversation]:
    """Every conversation the documents give, in their order; the first about a name or with an answer stays."""
    taken: set[str] = set()
    conversations = []
    for conversation in (*_about_modules(modules), *_about_topics(topics)):
        _, answer, *_ = conversation.turns
        if taken.isdisjoint({conversation.name, answer}):  # a property's setter has its getter's name
            taken |= {conversation.name, answer}
            conversations.append(conversation)
    return conversations


def _about_modules(modules: Sequence[Document]) -> Iterator[Conversation]:
    for module in modules:
        if any(part.startswith("_") for part in module.name.split(".")):
            continue
        for name, node in _public_definitions(module.name, _parse(module)):
            answer = (ast.get_docstring(node) or "").strip()
            if answer:
                turns = (_question(_kind(node), name), answer, *_arguments_turns(name, node))
                yield Conversation(origin=module.name, name=name, kind="docstring", turns=turns)


def _about_topics(topics: Sequence[Document]) -> Iterator[Conversation]:
    for topic in topics:
        if len(topic.text) <= _LONGEST_TOPIC:
            title = re.sub("^The ", "the ", topic.text.partition("\n")[0].strip())
            turns = (_question("topic", title), topic.text)
            yield Conversation(origin=topic.name, name=topic.name, kind="topic", turns=turns)


def _parse(module: Document) -> ast.Module:
    """The module's tree; a file that is no Python (a template, a test of the parser) has nothing to ask about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old escape in somebody's string is not our reader's concern
        try:
            return ast.parse(module.text)
        except (SyntaxError, ValueError):  # ValueError: a zero byte, before Python 3.12
            return ast.Module(body=[], type_ignores=[])


def _public_definitions(name: str, node: _Definition) -> Iterator[tuple[str, _Definition]]:
    """`node` and the public classes, functions and methods inside it, with their full names."""
    yield name, node
    if isinstance(node, ast.Module | ast.ClassDef):
        for child in node.body:
            if isinstance(child, _Definition) and not child.name.startswith("_"):
                yield from _public_definitions(f"{name}.{child.name}", child)


def _kind(node: _Definition) -> str:
    if isinstance(node, ast.Module):
        return "module"
    return "class" if isinstance(node, ast.ClassDef) else "function"


def _arguments_turns(name: str, node: _Definition) -> tuple[str, ...]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return ()
    arguments = _RECEIVER.sub("", ast.unparse(node.args), count=1)
    return (_question("arguments", name), f"{name}({arguments})") if arguments else ()


def _question(kind: str, name: str) -> str:
    wordings = _WORDINGS[kind]
    digest = hashlib.sha256(f"{kind} {name}".encode()).digest()
    return wordings[int.from_bytes(digest[:4], "big") % len(wordings)].format(name)
