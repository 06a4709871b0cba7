"""CORE: prompts, spans and scores against sums by hand, and against a reader that takes one sequence at a time."""

import copy
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from bundle_maker import write_bundle

from dataprep.bundle import Bundle, LanguageModeling, MultipleChoice, Schema, Task, open_bundle
from dataprep.errors import DataError, UsageError
from dataprep.paths import Paths
from dataprep.shapes import PRESETS
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab
from train.attention import View
from train.checkpoint import Cursor
from train.core import TaskScore, check_core, core_mean, core_records, judge_core, scoring, shown
from train.core.prompts import asked_items, render, shot_places
from train.core.questions import ask, encode
from train.core.rows import lay, make_rows, stack
from train.model import GPT
from train.ranks import Ranks

ALONE = Ranks(rank=0, world_size=1, device=torch.device("cpu"))
SEQ_LEN = 64


@pytest.fixture(scope="module")
def vocab(encoded_root: Path) -> Vocab:
    return load_vocab(Paths(root=encoded_root), "tiny-bpe")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(write_bundle(tmp_path_factory.mktemp("core")))


@pytest.fixture(scope="module")
def model(vocab: Vocab) -> GPT:
    """Random, and sharp enough to prefer one token to another."""
    torch.manual_seed(5)
    model = GPT(PRESETS["nano"].shape, vocab_size=vocab.vocab_size, seq_len=SEQ_LEN).requires_grad_(requires_grad=False)
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.mul_(6)
    return model


def task_of(*items: Any, n_shots: int = 0, delimiter: str = " ", baseline: float = 0.0) -> Task:
    kinds = {MultipleChoice: "multiple_choice", Schema: "schema", LanguageModeling: "language_modeling"}
    kind = kinds[type(items[0])]
    return Task(label="toy", kind=kind, n_shots=n_shots, delimiter=delimiter, baseline=baseline, items=items)


def bundle_of(*tasks: Task) -> Bundle:
    named = [replace(task, label=f"{task.label}{i}") for i, task in enumerate(tasks)]
    return Bundle(name="toy", sha256="0" * 64, tasks=tuple(named))


class Bigrams:
    """A model with known probabilities: of each token after each, whatever stood before."""

    def __init__(self, vocab: Vocab, likely: dict[tuple[str, str], float]) -> None:
        self.cos_TE = self.sin_TE = torch.zeros(SEQ_LEN, 2)
        self.n_ids = vocab.vocab_size
        chances = torch.zeros(self.n_ids, self.n_ids)
        for (before, after), chance in likely.items():
            chances[ord(before), ord(after)] = chance
        rest = 1 - chances.sum(dim=1)
        chances += (chances == 0) * (rest / (chances == 0).sum(dim=1))[:, None]
        self.head_weight = chances.log().t().contiguous()

    def hidden(self, inputs: torch.Tensor, view: View) -> torch.Tensor:
        assert view is not None
        return F.one_hot(inputs, self.n_ids).float()


class Rounding(Bigrams):
    """The same, but for an error of 1e-5 after every "y" that is not computed in a row alone."""

    def hidden(self, inputs: torch.Tensor, view: View) -> torch.Tensor:
        alone = len(inputs) == 1 and view.mask_B1TT is None
        return super().hidden(inputs, view) * (1 + (0 if alone else 1e-5) * (inputs == ord("y")))[..., None]


# ---- prompts


def test_the_texts_of_a_prompt_are_shots_with_their_answers_blank_lines_and_the_item() -> None:
    choice = [MultipleChoice(f"Q{i}", (f"a{i}", f"b{i}"), i % 2) for i in range(3)]
    assert render(task_of(*choice, n_shots=2, delimiter="\nA: "), [2, 0, 1], 0) in (
        ["Q0\nA: a0\n\nQ1\nA: b1\n\nQ2\nA: a2", "Q0\nA: a0\n\nQ1\nA: b1\n\nQ2\nA: b2"],
        ["Q1\nA: b1\n\nQ0\nA: a0\n\nQ2\nA: a2", "Q1\nA: b1\n\nQ0\nA: a0\n\nQ2\nA: b2"],
    )
    schema = [Schema((f"x{i}", f"y{i}"), f"z{i}", 1) for i in range(2)]
    assert render(task_of(*schema, n_shots=1), [0, 1], 1) == ["y0 z0\n\nx1 z1", "y0 z0\n\ny1 z1"]
    words = [LanguageModeling(f" c{i} \n", f"d{i} ") for i in range(2)]
    assert render(task_of(*words, n_shots=1), [0, 1], 0) == ["c1 d1 \n\nc0", "c1 d1 \n\nc0 d0 "]


def test_items_are_those_of_pythons_own_shuffle_and_shots_never_hold_the_item_itself() -> None:
    letters = list("abcdefghij")
    random.Random(1337).shuffle(letters)
    assert ["abcdefghij"[i] for i in asked_items(10, None)] == letters
    assert ["abcdefghij"[i] for i in asked_items(10, 4)] == letters[:4]
    for place in range(4):
        shown_there = shot_places(place, 4, 3)
        assert sorted(shown_there) == [other for other in range(4) if other != place]
        assert shown_there == random.Random(1234 + place).sample([o for o in range(4) if o != place], 3)


def test_fewer_items_than_shots_are_refused_with_the_number_that_is_enough(vocab: Vocab, bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="--max-per-task 4") as refused:
        check_core(vocab, bundle, seq_len=SEQ_LEN, max_per_task=3)
    assert "animals_fewshot shows 3 other items" in str(refused.value)
    check_core(vocab, bundle, seq_len=SEQ_LEN, max_per_task=4)


def test_prompts_encoded_together_have_the_ids_of_the_slow_encoder(vocab: Vocab, bundle: Bundle) -> None:
    for task in bundle.tasks:
        asked = asked_items(len(task.items), None)
        texts = [text for place in range(len(asked)) for text in render(task, asked, place)]
        texts += ["", "<|endoftext|> naïve  \n\n", texts[0]]
        assert [ids.tolist() for ids in encode(vocab, texts)] == [
            [vocab.end_id, *vocab.encode_ordinary(text)] for text in texts
        ]
    assert encode(vocab, []) == []


# ---- spans


def spans(vocab: Vocab, task: Task, seq_len: int = SEQ_LEN) -> list[tuple[str, str]]:
    """What stands before each span of item 0 and what is in it."""
    question = ask(vocab, task, [0], [0], seq_len=seq_len)[0]
    pairs = zip(question.sequences, question.starts, strict=True)
    return [(vocab.decode(ids[:start].tolist()), vocab.decode(ids[start:].tolist())) for ids, start in pairs]


def test_spans_begin_where_choices_part_end_together_or_follow_the_context(vocab: Vocab) -> None:
    end = "<|endoftext|>"
    choice = task_of(MultipleChoice("Q", ("to", "tin", "t"), 0), delimiter=">")
    assert spans(vocab, choice) == [(f"{end}Q>t", "o"), (f"{end}Q>t", "in"), (f"{end}Q>t", "")]
    schema = task_of(Schema(("he is", "she was"), "so", 0))
    assert spans(vocab, schema) == [(f"{end}he i", "s so"), (f"{end}she wa", "s so")]
    assert spans(vocab, task_of(LanguageModeling("1 2 ", "3"))) == [(f"{end}1 2", " 3")]


def test_a_long_prompt_keeps_its_end_and_a_long_span_all_but_the_token_before_it(vocab: Vocab) -> None:
    task = task_of(LanguageModeling("abcdef", "ghij"), delimiter="")
    assert spans(vocab, task, seq_len=6) == [("ef", "ghij")]
    assert spans(vocab, task, seq_len=3) == [("h", "ij")]
    assert [question.is_cut for question in ask(vocab, task, [0], [0], seq_len=11)] == [False]
    assert [question.is_cut for question in ask(vocab, task, [0], [0], seq_len=10)] == [True]


def test_a_continuation_that_changes_the_prompts_tokens_is_refused_by_task_and_line(vocab: Vocab) -> None:
    task = task_of(LanguageModeling("abc", "d"), LanguageModeling("begi", "n"), delimiter="")
    with pytest.raises(DataError, match="item 1 of task toy0 cannot be asked"):
        check_core(vocab, bundle_of(task), seq_len=SEQ_LEN)
    blank = task_of(LanguageModeling("abc", ""), delimiter="")
    with pytest.raises(DataError, match="item 0 of task toy0"):
        judge_core(Bigrams(vocab, {}), vocab, bundle_of(blank), ALONE, seq_len=SEQ_LEN)


def test_rows_lay_choices_behind_what_they_share_as_the_example_says() -> None:
    first, second = np.array([9, 1, 2, 3, 4]), np.array([9, 1, 2, 5, 6, 7])  # e Q > A B, e Q > C D E
    row = lay([first, second], [3, 3], 10)
    assert row.tokens_T.tolist() == [9, 1, 2, 3, 5, 6]
    assert row.positions_T.tolist() == [0, 1, 2, 3, 3, 4]
    assert row.branches_T.tolist() == [0, 0, 0, 1, 2, 2]
    assert row.places_S.tolist() == [2, 3, 2, 4, 5]
    assert row.targets_S.tolist() == [3, 4, 5, 6, 7]
    assert row.owners_S.tolist() == [10, 10, 11, 11, 11]
    assert not stack([row]).is_plain
    assert stack([lay([first], [3], 0), lay([second], [3], 1)]).is_plain


# ---- scores


def test_a_model_with_known_probabilities_gets_the_scores_worked_out_by_hand(vocab: Vocab) -> None:
    likely = {(">", "a"): 0.2, (">", "b"): 0.1, ("b", "c"): 0.9, ("x", "="): 0.5, ("y", "="): 0.25, ("=", "m"): 0.6}
    # Mean loss of "a" -ln 0.2 = 1.609; of "bc" (-ln 0.1 - ln 0.9)/2 = 1.204: "bc", though "a" is likelier as a whole.
    choice = task_of(
        MultipleChoice("Q", ("a", "bc"), 1), MultipleChoice("R", ("a", "bc"), 0), delimiter=">", baseline=0.5
    )
    # Of "=m" after x (-ln 0.5 - ln 0.6)/2, after y (-ln 0.25 - ln 0.6)/2: x.
    schema = task_of(Schema(("x", "y"), "m", 0), Schema(("y", "x"), "m", 1), delimiter="=", baseline=0.5)
    # After "=" m is the likeliest; nothing follows m more likely than the first id of all.
    words = task_of(
        *(LanguageModeling("k", text) for text in ("m", "a", "m", "m\x00", "mm")), delimiter="=", baseline=0.0
    )
    scores = judge_core(Bigrams(vocab, likely), vocab, bundle_of(choice, schema, words), ALONE, seq_len=SEQ_LEN)
    right = [dict(zip(score.items, score.right, strict=True)) for score in scores]
    assert right == [{0: True, 1: False}, {0: True, 1: True}, {0: True, 1: False, 2: True, 3: True, 4: False}]
    assert [score.accuracy.value for score in scores] == [0.5, 1.0, 0.6]
    assert [score.centered.value for score in scores] == [0.0, 1.0, 0.6]
    assert core_mean(scores).value == pytest.approx(1.6 / 3)
    errors = [math.sqrt(0.25 / 1) / 0.5, 0.0, math.sqrt(0.24 / 4)]
    assert [score.centered.stderr for score in scores] == pytest.approx(errors)
    assert core_mean(scores).stderr == pytest.approx(math.sqrt(sum(error**2 for error in errors)) / 3)


def test_equal_choices_go_to_the_first_and_one_that_another_begins_with_is_never_chosen(vocab: Vocab) -> None:
    same = task_of(MultipleChoice("Q", ("ab", "cd", "ab"), 0), MultipleChoice("Q", ("ab", "cd", "ab"), 2))
    begun = task_of(MultipleChoice("Q", ("a", "ab"), 0), MultipleChoice("Q", ("a", "ab"), 1))
    likely = {(" ", "a"): 0.9, ("a", "b"): 0.001}
    for batch_size in (1, 16):
        scores = judge_core(
            Bigrams(vocab, likely), vocab, bundle_of(same, begun), ALONE, seq_len=SEQ_LEN, batch_size=batch_size
        )
        assert [dict(zip(score.items, score.right, strict=True)) for score in scores] == [
            {0: True, 1: False},
            {0: False, 1: True},
        ]
        assert scores[1].notes == ("2 items have a choice that another begins with: it is never chosen",)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_row_in_which_nothing_is_judged_costs_no_one_the_run(vocab: Vocab, batch_size: int) -> None:
    model = Bigrams(vocab, {("y", "a"): 0.4})
    same = MultipleChoice("Qy", ("a", "a"), 0)  # nothing parts them
    near = MultipleChoice("Qy", ("", "aa", "aa"), 1)  # a tie, asked again with each choice in a row of its own
    [score] = judge_core(
        model, vocab, bundle_of(task_of(same, near, delimiter="")), ALONE, seq_len=SEQ_LEN, batch_size=batch_size
    )
    assert score.right == (True, True)


def test_what_rounding_could_turn_is_asked_again_alone(vocab: Vocab, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Rounding(vocab, {("x", "a"): 0.5, ("y", "a"): 0.5})
    tied = task_of(MultipleChoice("Q", ("xa", "ya"), 0))
    assert judge_core(model, vocab, bundle_of(tied), ALONE, seq_len=SEQ_LEN)[0].right == (True,)
    monkeypatch.setitem(scoring._NEAR, "cpu", 0.0)
    assert judge_core(model, vocab, bundle_of(tied), ALONE, seq_len=SEQ_LEN)[0].right == (False,)


def naive_prompts(task: Task) -> Iterator[tuple[int, list[str], Any]]:
    """Each item asked, as REFERENCE words it: its number, its prompts, itself."""
    items = list(enumerate(task.items))
    random.Random(1337).shuffle(items)
    for i, (number, item) in enumerate(items):
        others = [other for j, (_, other) in enumerate(items) if j != i]
        text = "".join(
            naive(shot, task.delimiter) + "\n\n" for shot in random.Random(1234 + i).sample(others, task.n_shots)
        )
        if isinstance(item, MultipleChoice):
            prompts = [f"{text}{item.query}{task.delimiter}{choice}" for choice in item.choices]
        elif isinstance(item, Schema):
            prompts = [f"{text}{option}{task.delimiter}{item.continuation}" for option in item.context_options]
        else:
            bare = f"{text}{item.context.strip()}{task.delimiter}"
            prompts = [bare.strip(), bare + item.continuation]
        yield number, prompts, item


def naive(shot: Any, delimiter: str) -> str:
    if isinstance(shot, MultipleChoice):
        return shot.query + delimiter + shot.choices[shot.gold]
    if isinstance(shot, Schema):
        return shot.context_options[shot.gold] + delimiter + shot.continuation
    return shot.context.strip() + delimiter + shot.continuation


def naive_losses(model: GPT, vocab: Vocab, prompts: list[str], item: Any) -> list[tuple[float, bool]]:
    """One sequence at a time: mean loss of its span, and whether every token of it was the likeliest."""
    ids = [[vocab.end_id, *vocab.encode_ordinary(prompt)] for prompt in prompts]
    if isinstance(item, LanguageModeling):
        starts, ids = [len(ids[0])], ids[1:]
    elif isinstance(item, MultipleChoice):
        starts = [next(i for i in range(9999) if len({tuple(one[: i + 1]) for one in ids}) > 1)] * len(ids)
    else:
        shared = next(i for i in range(9999) if len({tuple(one[-i - 1 :]) for one in ids}) > 1)
        starts = [len(one) - shared for one in ids]
    found = []
    for one, start in zip(ids, starts, strict=True):
        cut = max(0, len(one) - SEQ_LEN)
        row, first = torch.tensor(one[cut:]), max(1, start - cut)
        losses = model.token_losses(row[None, :-1], row[None, 1:])[0, first - 1 :]
        best = [int(model.next_logits(row[None, :end]).argmax()) for end in range(first, len(row))]
        found.append((float(losses.double().mean()), best == row[first:].tolist()))
    return found


def test_batches_of_shared_prefixes_give_the_losses_of_one_sequence_at_a_time(
    model: GPT, vocab: Vocab, bundle: Bundle
) -> None:
    n_rows, n_sequences = 0, 0
    for task in bundle.tasks:
        asked = asked_items(len(task.items), None)
        questions = ask(vocab, task, asked, range(len(asked)), seq_len=SEQ_LEN)
        rows = make_rows(questions, SEQ_LEN)
        wanted = [
            pair for _, prompts, item in naive_prompts(task) for pair in naive_losses(model, vocab, prompts, item)
        ]
        n_rows, n_sequences = n_rows + len(rows), n_sequences + len(wanted)
        for batch_size in (1, 3, 16):
            with torch.inference_mode():
                found = scoring._scores(model, rows, len(wanted), batch_size)
            assert found.losses.tolist() == pytest.approx([loss for loss, _ in wanted], abs=1e-4)
            assert found.is_likeliest.tolist() == [likeliest for _, likeliest in wanted]
            assert ((found.margins > 0) == found.is_likeliest).all()
    assert n_rows < n_sequences  # some were laid together


@pytest.mark.parametrize("sharpness", [1.0, 1e-6])
def test_answers_are_those_of_one_sequence_at_a_time_for_every_batch_size(
    model: GPT, vocab: Vocab, bundle: Bundle, sharpness: float
) -> None:
    """With sharpness 1e-6 every two choices are nearer than rounding: all are asked again."""
    model = copy.deepcopy(model)
    model.final_norm.weight.mul_(sharpness)
    wanted = []
    for task in bundle.tasks:
        right = []
        for number, prompts, item in naive_prompts(task):
            found = naive_losses(model, vocab, prompts, item)
            losses = [loss for loss, _ in found]
            is_right = found[0][1] if isinstance(item, LanguageModeling) else losses.index(min(losses)) == item.gold
            right.append((number, is_right))
        wanted.append(right)
    for batch_size in (1, 16):
        scores = judge_core(model, vocab, bundle, ALONE, seq_len=SEQ_LEN, batch_size=batch_size)
        assert [list(zip(score.items, score.right, strict=True)) for score in scores] == wanted
    if sharpness == 1.0:
        rights = [is_right for right in wanted for _, is_right in right]
        assert any(rights)
        assert not all(rights)
    assert scores[-1].notes == ("4 items longer than 64 tokens: their beginning is cut off",)


def test_judging_says_each_task_and_what_is_left_and_changes_nothing(model: GPT, vocab: Vocab, bundle: Bundle) -> None:
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    state, said = torch.get_rng_state(), []
    scores = judge_core(model, vocab, bundle, ALONE, seq_len=SEQ_LEN, max_per_task=4, say=said.append)
    assert [score.n for score in scores] == [4] * 5
    assert len(said) == 5
    assert said[0].startswith("core: 1 of 5 tasks, animals_zeroshot 0.")
    assert said[0].endswith(" min left")
    assert said[-1].startswith("core: 5 of 5 tasks, long_stories")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_records_name_centered_accuracies_their_mean_and_plain_accuracies(bundle: Bundle) -> None:
    right = (True, True, False, False)
    scores = [
        TaskScore(label=label, kind="schema", n_shots=0, baseline=0.25, items=(0, 1, 2, 3), right=right)
        for label in ("one", "two")
    ]
    cursor = Cursor(step=7, rows_done=56, tokens_done=3584)
    records = core_records(cursor, scores, bundle, seq_len=64, max_per_task=4)
    assert [(r["suite"], r["task"], r["n"], round(r["value"], 3), round(r["stderr"], 3)) for r in records] == [
        ("core", "one", 4, 0.333, 0.385),
        ("core", "two", 4, 0.333, 0.385),
        ("core-accuracy", "one", 4, 0.5, 0.289),
        ("core-accuracy", "two", 4, 0.5, 0.289),
        ("core", "CORE", 8, 0.333, 0.272),
    ]
    assert {(r["step"], r["rows_done"], r["tokens_done"], r["max_per_task"], r["bundle_sha256"]) for r in records} == {
        (7, 56, 3584, 4, bundle.sha256)
    }
    assert shown(7, scores) == "core step 7 | CORE 0.3333 ± 0.2722 of 2 tasks, 8 items (GPT-2 XL 0.2565)"


def test_a_single_item_has_no_standard_error_and_neither_has_the_mean(vocab: Vocab) -> None:
    task = task_of(MultipleChoice("Q", ("a", "b"), 0))
    scores = judge_core(Bigrams(vocab, {}), vocab, bundle_of(task), ALONE, seq_len=SEQ_LEN)
    assert scores[0].accuracy.stderr is None
    assert core_mean(scores).stderr is None
