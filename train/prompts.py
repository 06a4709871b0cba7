"""Prompts put to a model: what it goes on with, and which facts it gets right.

In:  an engine, `Prompts`, the cursor of its weights. Out: a sample record for each prompt and temperature.
Holds: every prompt at temperature 0 and 0.8; same weights, prompts and seed give the same records; a question that
       leaves an answer no room is answered with just that: no run is lost for it.
{"step": 500, …, "prompt": "The capital of France is the city of", "completion": " Paris.", "expected": "Paris",
 "hit": true, "temperature": 0.0, …}
"""

import random
from collections.abc import Mapping, Sequence

from dataprep.errors import UsageError
from dataprep.ledger import Record
from dataprep.standing import standing_samples
from dataprep.vocab import Vocab
from train.checkpoint import Cursor
from train.engine import Engine, Prompt, chat_prompt, text_prompt
from train.prompt_file import NONE, Fact, Prompts, read_prompts
from train.sampling import Sampling

__all__ = ["NONE", "Fact", "Prompts", "ask", "is_asked", "read_prompts", "right_facts", "shown_facts", "two_said"]
TEMPERATURES = (0.0, 0.8)
_MAX_TOKENS = 32
_SEED_BITS = 32
_NAMED = 3  # facts in a line, at most
_EITHER = " | "  # between accepted answers, in a record


def ask(
    engine: Engine,
    vocab: Vocab,
    prompts: Prompts,
    cursor: Cursor,
    *,
    chat: bool,
    seed: int,
    max_tokens: int = _MAX_TOKENS,
) -> list[Record]:
    """Every prompt at every temperature, as records of the weights that stand at `cursor`."""
    asked = prompts.asked(chat=chat)
    put = [_put(vocab, text, chat=chat and fact is not None) for text, fact in asked]
    where = {"step": cursor.step, "rows_done": cursor.rows_done, "tokens_done": cursor.tokens_done}
    records = []
    for temperature in TEMPERATURES:
        drawn = [
            Sampling(temperature=temperature, seed=_seed_of(seed, text), max_tokens=max_tokens) for text, _ in asked
        ]
        said = _say(engine, list(zip(put, drawn, strict=True)))
        for (text, fact), completion in zip(asked, said, strict=True):
            told = {"prompt": text, "completion": completion, "temperature": temperature}
            records.append({**where, **told, **_judged(fact, completion)})
    return records


def is_asked(records: Sequence[Record], prompts: Prompts, cursor: Cursor, *, chat: bool) -> bool:
    """Whether the journal holds every answer of the weights that stand at `cursor`."""
    here = [record for record in standing_samples(records) if record.get("rows_done") == cursor.rows_done]
    known = {(record["prompt"], record.get("temperature")) for record in here}
    return all((text, heat) in known for text, _ in prompts.asked(chat=chat) for heat in TEMPERATURES)


def right_facts(records: Sequence[Record]) -> dict[str, bool]:
    """Of each fact asked at temperature 0, whether it was right: of the newest step in `records`."""
    asked = [record for record in records if record.get("fact") and record.get("temperature") == 0]
    newest = max((record["step"] for record in asked), default=0)
    return {record["fact"]: record["hit"] for record in asked if record["step"] == newest}


def shown_facts(step: int, prompts: Prompts, right: Mapping[str, bool], before: Mapping[str, bool]) -> str:
    """A line for whoever watches: how many are right, and which were not the last time."""
    line = f"facts step {step} | {sum(right.values())}/{len(right)} right at temperature 0"
    if not before:
        return line
    new = [fact.answered for fact in prompts.facts if right.get(fact.ask) and not before.get(fact.ask)]
    lost = [fact.answered for fact in prompts.facts if before.get(fact.ask) and not right.get(fact.ask)]
    return line + "".join(f" | {len(of)} {word}: {_some(of)}" for word, of in (("new", new), ("lost", lost)) if of)


def two_said(records: Sequence[Record], prompts: Prompts, *, chat: bool) -> list[Record]:
    """Two answers to show: of a chat to facts, as it is asked; else to openings, warm."""
    texts = [text for text, fact in prompts.asked(chat=chat) if (fact is not None) == chat][:2]
    heat = min(TEMPERATURES) if chat else max(TEMPERATURES)
    return [record for record in records if record["prompt"] in texts and record["temperature"] == heat]


def _put(vocab: Vocab, text: str, *, chat: bool) -> Prompt:
    return chat_prompt(vocab, [{"role": "user", "content": text}]) if chat else text_prompt(vocab, text)


def _seed_of(seed: int, text: str) -> int:
    """Each prompt draws numbers of its own: by the same ones a weak model says the same to all."""
    return random.Random(f"{seed} {text}").getrandbits(_SEED_BITS)


def _say(engine: Engine, put: Sequence[tuple[Prompt, Sampling]]) -> list[str]:
    """What is said to each. A question that leaves an answer no room is no reason to lose a run: that is said."""
    prompts, drawn = [prompt for prompt, _ in put], [sampling for _, sampling in put]
    try:
        return [answer.text for answer in engine.generate(prompts, drawn)]
    except UsageError as error:
        if len(put) == 1:
            return [f"({error.what}: {error.seen})"]
        return [text for each in put for text in _say(engine, [each])]


def _judged(fact: Fact | None, completion: str) -> Record:
    if fact is None:
        return {"fact": None, "expected": None, "hit": None}
    return {"fact": fact.ask, "expected": _EITHER.join(fact.expect), "hit": fact.is_hit(completion)}


def _some(facts: Sequence[str]) -> str:
    return "; ".join(facts[:_NAMED]) + (" …" if len(facts) > _NAMED else "")
