r"""Prompt file: beginnings to go on from, and facts with their answers, as train/prompts.toml has them.

In:  a TOML file. Out: `Prompts`, checked: no key that nobody reads, no empty text, nothing twice, no answer given away.
Rule: a hit is an accepted answer that stands as whole words, whatever its case, among the first 80 characters of the
      completion's first line that is not empty.
    expect "Paris":   " Paris. It is …" hit    "\n\nparis" hit    " Parisian cafés" no    "the city\nParis" no
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataprep.errors import UsageError

SHIPPED = Path(__file__).with_name("prompts.toml")
NONE = "none"  # --prompts none: nothing is asked
_HIT_CHARACTERS = 80


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something to know. `ask` is a text to go on from and names the fact, `question` is what a chat is asked."""

    ask: str
    question: str
    expect: tuple[str, ...]

    def is_hit(self, completion: str) -> bool:
        """Whether the completion says it."""
        line = completion.strip().partition("\n")[0]
        return any(_end_of(answer, line) <= _HIT_CHARACTERS for answer in self.expect)

    @property
    def answered(self) -> str:
        """The fact with its answer, for people."""
        return f"{self.ask} {self.expect[0]}"


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """A file of them; none at all asks nothing."""

    openings: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()

    def asked(self, *, chat: bool) -> list[tuple[str, Fact | None]]:
        """Each as it is put to the model, with the fact it asks for. A chat is a model of texts too: openings stay."""
        facts = [(fact.question if chat else fact.ask, fact) for fact in self.facts]
        return [*((opening, None) for opening in self.openings), *facts]

    def summary(self, every: int) -> str:
        """What a run's header says about them."""
        counts = f"{len(self.openings)} beginnings, {len(self.facts)} facts"
        return f"every {every:,} steps and at the end: {counts}" if self.openings or self.facts else ""


def read_prompts(file: str | None) -> Prompts:
    """The prompts in `file`; None is the shipped one, "none" asks nothing. Raises UsageError naming what is wrong."""
    if file == NONE:
        return Prompts()
    path = Path(file) if file else SHIPPED
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _bad(path, "cannot be read", seen=str(error), wanted="a TOML file such as train/prompts.toml") from None
    _refuse_unknown(path, "the file", value, {"openings", "facts"})
    openings = tuple(_texts(path, "openings", value.get("openings", [])))
    facts = value.get("facts", [])
    if not isinstance(facts, list):
        raise _bad(path, "has facts that are no list", seen=repr(facts)[:60], wanted="facts = [{ ask = … }, …]")
    prompts = Prompts(openings=openings, facts=tuple(_fact(path, n, fact) for n, fact in enumerate(facts, 1)))
    for chat in (False, True):
        _refuse_twice(path, [text for text, _ in prompts.asked(chat=chat)])
    if not prompts.openings and not prompts.facts:
        raise _bad(path, "asks nothing", seen="no openings, no facts", wanted="one of them, or --prompts none")
    return prompts


def _fact(path: Path, number: int, value: Any) -> Fact:
    where = f"fact {number}"
    if not isinstance(value, dict):
        raise _bad(path, f"has a {where} that is no table", seen=repr(value)[:60], wanted="{ ask, question, expect }")
    _refuse_unknown(path, where, value, {"ask", "question", "expect"})
    asks, question = (_texts(path, f"{key} of {where}", [value.get(key)])[0] for key in ("ask", "question"))
    expect = value.get("expect")
    answers = _texts(path, f"expect of {where}", expect if isinstance(expect, list) and expect else [expect])
    for answer in answers:
        if any(_end_of(answer, text) < float("inf") for text in (asks, question)):
            raise _bad(
                path, f"gives the answer of {where} away", seen=f"{answer!r} in {asks!r}", wanted="another wording"
            )
    _refuse_twice(path, [answer.casefold() for answer in answers])
    return Fact(ask=asks, question=question, expect=tuple(answers))


def _texts(path: Path, where: str, values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(text, str) and text.strip() for text in values):
        raise _bad(path, f"has no text where one is needed: {where}", seen=repr(values)[:60], wanted="text, not empty")
    return values


def _refuse_unknown(path: Path, where: str, value: dict[str, Any], known: set[str]) -> None:
    unknown = sorted(value.keys() - known)
    if unknown:
        wanted = ", ".join(sorted(known))
        raise _bad(path, f"has a key that nobody reads, in {where}", seen=", ".join(unknown), wanted=wanted)


def _refuse_twice(path: Path, texts: Sequence[str]) -> None:
    twice = [text for i, text in enumerate(texts) if text in texts[:i]]
    if twice:
        raise _bad(path, "asks the same twice", seen=repr(twice[0]), wanted="each text once")


def _bad(path: Path, what: str, *, seen: str, wanted: str) -> UsageError:
    return UsageError(f"{path.name} {what}", seen=seen, wanted=wanted, fix=f"edit {path}; or --prompts none")


def _end_of(answer: str, line: str) -> float:
    """Where `answer` first ends in `line` as whole words; infinite where it does not stand there."""
    words = r"\s+".join(map(re.escape, answer.casefold().split()))
    found = re.search(rf"(?<!\w){words}(?!\w)", line.casefold())
    return found.end() if found else float("inf")
