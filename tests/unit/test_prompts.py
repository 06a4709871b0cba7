"""Prompts: which file is taken, what counts as right, and what is asked of a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dataprep.errors import UsageError
from dataprep.paths import Paths
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab
from train.checkpoint import Cursor
from train.engine import Answer, Prompt, chat_prompt, text_prompt
from train.prompts import Fact, Prompts, ask, is_asked, read_prompts, right_facts, shown_facts, two_said
from train.sampling import Sampling

PARIS = Fact(ask="The capital of France is", question="What is the capital of France?", expect=("Paris",))
LEGS = Fact(ask="A spider has", question="How many legs has a spider?", expect=("eight", "8 legs"))
PROMPTS = Prompts(openings=("Once",), facts=(PARIS, LEGS))
AT_TEN = Cursor(step=10, rows_done=80, tokens_done=5_120)
GOOD = 'openings = ["Once"]\nfacts = [{ ask = "a is", question = "what is a?", expect = "b" }]\n'


@pytest.fixture(scope="module")
def vocab(encoded_root: Path) -> Vocab:
    return load_vocab(Paths(root=encoded_root), "tiny-bpe")


class Scripted:
    """Says " Paris." to everything, and keeps what it was asked; of some questions it says that they do not fit."""

    def __init__(self, *, too_long: Sequence[Prompt] = ()) -> None:
        self.asked: list[tuple[Prompt, Sampling]] = []
        self.too_long = too_long

    def generate(self, prompts: Sequence[Prompt], drawn: Sequence[Sampling]) -> list[Answer]:
        if any(prompt in self.too_long for prompt in prompts):
            raise UsageError("the message is too long", seen="70 tokens", wanted="56", fix="a shorter one")
        self.asked += zip(prompts, drawn, strict=True)
        return [Answer(text=" Paris.", n_prompt_tokens=1, n_tokens=2, finish="stop") for _ in prompts]


def asked_of(engine: Any, vocab: Vocab, *, chat: bool) -> list[dict[str, Any]]:
    return ask(engine, vocab, PROMPTS, AT_TEN, chat=chat, seed=3)


@pytest.mark.parametrize(
    ("completion", "is_hit"),
    [
        (" Paris. It is large.", True),
        ("\n\n  PARIS", True),
        (" called 'paris'", True),
        (" Parisian cafés", False),
        (" a city\nParis", False),
        ("", False),
        (" " + "x" * 74 + " Paris", True),  # its last letter is the 80th of the line
        (" " + "x" * 75 + " Paris", False),
    ],
)
def test_a_hit_is_an_accepted_answer_as_whole_words_early_in_the_first_line(completion: str, is_hit: bool) -> None:
    assert PARIS.is_hit(completion) == is_hit


@pytest.mark.parametrize(
    ("completion", "is_hit"),
    [(" 8  legs", True), ("EIGHT of them", True), (" 8", False), (" 18 legs", False), (" eighty", False)],
)
def test_each_accepted_spelling_counts_and_spaces_within_it_do_not(completion: str, is_hit: bool) -> None:
    assert LEGS.is_hit(completion) == is_hit


@pytest.mark.parametrize("answer", ["C++", "c++", "C++, of course", "(C++)"])
def test_an_answer_that_ends_in_signs_is_found(answer: str) -> None:
    assert Fact(ask="a", question="b", expect=("C++",)).is_hit(answer)


def test_every_prompt_is_asked_at_both_temperatures_as_the_model_learnt_to_be_asked(vocab: Vocab) -> None:
    plain, chat = Scripted(), Scripted()
    records = asked_of(plain, vocab, chat=False)
    asked_of(chat, vocab, chat=True)
    texts = [text_prompt(vocab, text) for text in ("Once", PARIS.ask, LEGS.ask)]
    questions = [chat_prompt(vocab, [{"role": "user", "content": fact.question}]) for fact in (PARIS, LEGS)]
    assert [prompt for prompt, _ in plain.asked] == texts * 2
    assert [prompt for prompt, _ in chat.asked] == [texts[0], *questions] * 2
    assert [sampling.temperature for _, sampling in plain.asked] == [0.0] * 3 + [0.8] * 3
    keys = ("step", "tokens_done", "prompt", "fact", "expected", "hit", "temperature")
    assert [tuple(record[key] for key in keys) for record in records[:3]] == [
        (10, 5_120, "Once", None, None, None, 0.0),
        (10, 5_120, PARIS.ask, PARIS.ask, "Paris", True, 0.0),
        (10, 5_120, LEGS.ask, LEGS.ask, "eight | 8 legs", False, 0.0),
    ]


def test_a_question_that_leaves_no_room_says_so_and_costs_no_other_its_answer(vocab: Vocab) -> None:
    engine: Any = Scripted(too_long=[text_prompt(vocab, LEGS.ask)])
    said = {record["prompt"]: record["completion"] for record in asked_of(engine, vocab, chat=False)}
    assert said == {"Once": " Paris.", PARIS.ask: " Paris.", LEGS.ask: "(the message is too long: 70 tokens)"}


def test_each_prompt_draws_numbers_of_its_own_whatever_stands_beside_it(vocab: Vocab) -> None:
    def seeds(prompts: Prompts, seed: int) -> list[int]:
        engine: Any = Scripted()
        ask(engine, vocab, prompts, AT_TEN, chat=False, seed=seed)
        return [sampling.seed for _, sampling in engine.asked if sampling.temperature]

    together = seeds(PROMPTS, 3)
    assert len(set(together)) == 3
    assert seeds(Prompts(facts=(LEGS,)), 3) == together[2:]
    assert not set(seeds(PROMPTS, 4)) & set(together)


def test_what_the_journal_holds_whole_is_not_asked_again(vocab: Vocab) -> None:
    engine: Any = Scripted()
    start = {"kind": "start", "rows_done": 0}
    records = [start, *({"kind": "sample", **record} for record in asked_of(engine, vocab, chat=False))]
    assert is_asked(records, PROMPTS, AT_TEN, chat=False)
    assert not is_asked(records[:-1], PROMPTS, AT_TEN, chat=False)
    assert not is_asked(records, PROMPTS, AT_TEN, chat=True)
    assert not is_asked([*records, start], PROMPTS, AT_TEN, chat=False), "those weights were thrown away"


def test_who_watches_reads_how_many_are_right_and_which_are_new_or_lost() -> None:
    none, one, other = ({PARIS.ask: first, LEGS.ask: second} for first, second in ((0, 0), (1, 0), (0, 1)))
    assert shown_facts(5, PROMPTS, one, {}) == "facts step 5 | 1/2 right at temperature 0"
    assert shown_facts(5, PROMPTS, none, none) == "facts step 5 | 0/2 right at temperature 0"
    assert shown_facts(5, PROMPTS, other, one) == (
        "facts step 5 | 1/2 right at temperature 0 | 1 new: A spider has eight | 1 lost: The capital of France is Paris"
    )


def test_two_answers_are_shown_of_the_kind_that_the_model_is_made_for(vocab: Vocab) -> None:
    engine: Any = Scripted()
    shown = {chat: two_said(asked_of(engine, vocab, chat=chat), PROMPTS, chat=chat) for chat in (False, True)}
    assert [(record["prompt"], record["temperature"]) for record in shown[False]] == [("Once", 0.8)]
    assert [(r["prompt"], r["temperature"]) for r in shown[True]] == [(PARIS.question, 0.0), (LEGS.question, 0.0)]
    records = asked_of(engine, vocab, chat=True)
    assert right_facts(records) == {PARIS.ask: True, LEGS.ask: False}


def test_the_shipped_prompts_are_sound() -> None:
    prompts = read_prompts(None)
    assert (len(prompts.openings), len(prompts.facts)) == (10, 30)
    assert sum("Python" in fact.ask for fact in prompts.facts) >= 3
    assert all(fact.is_hit(f" {answer}.") for fact in prompts.facts for answer in fact.expect)
    assert not any(fact.is_hit(fact.ask) or fact.is_hit(fact.question) for fact in prompts.facts)
    assert read_prompts("none") == Prompts()


def test_a_file_of_ones_own_is_taken_and_one_answer_may_stand_without_brackets(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD)
    prompts = read_prompts(str(tmp_path / "mine.toml"))
    assert prompts == Prompts(openings=("Once",), facts=(Fact(ask="a is", question="what is a?", expect=("b",)),))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("openings = [", "cannot be read"),
        ('opening = ["Once"]', "a key that nobody reads, in the file.*opening"),
        ('openings = "Once"', "no text where one is needed: openings"),
        ('openings = ["Once", " "]', "no text where one is needed: openings"),
        ('openings = ["Once", "Once"]', "asks the same twice.*Once"),
        ('openings = ["a is"]\n' + GOOD.split("\n")[1], "asks the same twice.*a is"),
        ("facts = 3", "facts that are no list"),
        ("facts = [3]", "fact 1 that is no table"),
        (GOOD.replace("expect", "expects"), "a key that nobody reads, in fact 1.*expects"),
        (GOOD.replace('"b"', '""'), "no text where one is needed: expect of fact 1"),
        (GOOD.replace('"b"', "[]"), "no text where one is needed: expect of fact 1"),
        (GOOD.replace('"b"', '["b", "B"]'), "asks the same twice"),
        (GOOD.replace('question = "what is a?", ', ""), "no text where one is needed: question of fact 1"),
        (GOOD.replace('"b"', '"A"'), "gives the answer of fact 1 away"),
        ("", "asks nothing"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=f"(?s){said}") as refusal:
        read_prompts(str(file))
    assert str(refusal.value).startswith("error: mine.toml ")
    assert len(str(refusal.value).splitlines()) == 3


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_prompts(str(tmp_path / "none.toml"))
