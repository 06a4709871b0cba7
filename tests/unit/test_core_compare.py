"""The paired bootstrap: nothing out of nothing, a difference where there is one, intervals that hold what they say."""

from dataclasses import replace

import numpy as np
import pytest

from dataprep.errors import UsageError
from train.core.compare import compare, compare_outcomes
from train.core.outcomes import Outcomes
from train.core.scores import TaskScore


def score(label: str, right: np.ndarray, baseline: float = 0.0) -> TaskScore:
    right = tuple(right.astype(bool).tolist())
    items = tuple(range(len(right)))
    return TaskScore(label=label, kind="schema", n_shots=0, baseline=baseline, items=items, right=right)


def simulated(drawing: np.random.Generator, n_items: int) -> tuple[list[TaskScore], list[TaskScore]]:
    """Two checkpoints over three tasks: items differ in difficulty, and the second is better by 0, 0.05 and 0.1."""
    before, after = [], []
    for i, (baseline, gain) in enumerate(((0.0, 0.0), (0.25, 0.05), (0.5, 0.1))):
        ease, luck = drawing.uniform(0.2, 0.8, n_items), drawing.random(n_items)
        also = np.where(drawing.random(n_items) < 0.7, luck, drawing.random(n_items))
        before.append(score(f"t{i}", luck < ease, baseline))
        after.append(score(f"t{i}", also < ease + gain, baseline))
    return before, after


TRUE_CORE_GAIN = (0.0 + 0.05 / 0.75 + 0.1 / 0.5) / 3


def test_equal_answers_are_no_difference() -> None:
    before, _ = simulated(np.random.default_rng(0), 100)
    for of in compare(before, before):
        assert (of.delta, of.low, of.high, of.verdict) == (0, 0, 0, "not more than noise")


def test_a_difference_that_is_there_is_found_with_its_sign_and_the_same_interval_each_time() -> None:
    before, after = simulated(np.random.default_rng(1), 2000)
    found = compare(before, after)
    assert [of.task for of in found] == ["t0", "t1", "t2", "CORE"]
    assert [of.is_more_than_noise for of in found] == [False, True, True, True]
    assert found[-1].delta == pytest.approx(sum(of.delta for of in found[:-1]) / 3)
    assert found[-1].low < TRUE_CORE_GAIN < found[-1].high
    back = compare(after, before)[-1]
    assert back.delta == -found[-1].delta
    assert back.high < 0
    assert compare(before, after) == found


def test_drawing_counts_is_drawing_items() -> None:
    before, after = (part[1:2] for part in simulated(np.random.default_rng(2), 150))
    gained = np.array(after[0].right, dtype=float) - np.array(before[0].right, dtype=float)
    drawing = np.random.default_rng(3)
    means = gained[drawing.integers(0, 150, (10_000, 150))].mean(axis=1) / 0.75
    found = compare(before, after)[0]
    assert (found.low, found.high) == pytest.approx(np.percentile(means, (2.5, 97.5)), abs=0.012)


def test_the_interval_holds_the_truth_about_95_times_in_100() -> None:
    drawing, hits, n = np.random.default_rng(4), 0, 300
    for _ in range(n):
        core = compare(*simulated(drawing, 120))[-1]
        hits += core.low <= TRUE_CORE_GAIN <= core.high
    assert 0.91 <= hits / n <= 0.985


def test_answers_to_other_questions_are_not_compared() -> None:
    scores = tuple(simulated(np.random.default_rng(5), 20)[0])
    ours = Outcomes(label="a@1", bundle="core", bundle_sha256="1" * 64, max_per_task=20, scores=scores)
    with pytest.raises(UsageError, match="another bundle"):
        compare_outcomes(ours, replace(ours, label="b@1", bundle_sha256="2" * 64))
    with pytest.raises(UsageError, match="another max-per-task") as refused:
        compare_outcomes(ours, replace(ours, label="b@1", max_per_task=None))
    assert refused.value.seen == "20 and all"
    assert compare_outcomes(ours, replace(ours, label="b@1"))[-1].delta == 0
