"""Sampling's deciders, on logits made by hand."""

import math

import pytest
import torch

from dataprep.errors import UsageError
from train.sampling import Sampling, choose, cool, draw, keep_min_p, keep_top_k, keep_top_p, penalise

LIKELY = torch.tensor([[0.15, 0.5, 0.05, 0.3]], dtype=torch.float64)
EVERY = torch.ones(1, 4, dtype=torch.bool)
GREEDY = Sampling(temperature=0)


def kept(logits: torch.Tensor) -> list[float]:
    return [round(value, 4) for value in logits[0].softmax(0).tolist()]


def chosen(sampling: Sampling, uniform: float, **given: torch.Tensor) -> int:
    given = {"allowed_BV": EVERY, "seen_BV": None} | given
    return int(choose(LIKELY.log(), sampling, uniform_B=torch.tensor([uniform]), **given))


def test_temperature_zero_takes_the_largest_whatever_is_drawn() -> None:
    assert {chosen(GREEDY, uniform) for uniform in (0.0, 0.5, 0.999)} == {1}


def test_a_temperature_makes_the_likely_likelier_and_none_is_too_small() -> None:
    assert kept(cool(LIKELY.log(), 1.0)) == [0.15, 0.5, 0.05, 0.3]
    squares = [value**2 for value in (0.15, 0.5, 0.05, 0.3)]
    assert kept(cool(LIKELY.log(), 0.5)) == pytest.approx([value / sum(squares) for value in squares], abs=1e-4)
    assert kept(cool(1e30 * LIKELY, 1e-300)) == [0, 1, 0, 0]


def test_top_k_keeps_the_k_largest_and_more_than_there_are_keeps_all() -> None:
    assert kept(keep_top_k(LIKELY.log(), 2)) == [0, 0.625, 0, 0.375]
    assert kept(keep_top_k(LIKELY.log(), 99)) == kept(LIKELY.log())
    assert kept(keep_top_k(torch.zeros(1, 4), 2)) == [0.25] * 4  # equals of the last stay


def test_top_p_keeps_the_fewest_that_reach_it_and_always_one() -> None:
    assert kept(keep_top_p(LIKELY.log(), 0.6)) == [0, 0.625, 0, 0.375]
    assert kept(keep_top_p(LIKELY.log(), 0.4)) == [0, 1, 0, 0]
    assert kept(keep_top_p(LIKELY.log(), 1e-9)) == [0, 1, 0, 0]
    assert kept(keep_top_p(LIKELY.log(), 1.0)) == kept(LIKELY.log())


def test_min_p_keeps_what_is_so_many_times_as_likely_as_the_likeliest() -> None:
    assert kept(keep_min_p(LIKELY.log(), 0.55)) == [0, 0.625, 0, 0.375]
    assert kept(keep_min_p(LIKELY.log(), 1.0)) == [0, 1, 0, 0]
    assert kept(keep_min_p(LIKELY.log(), 0.0)) == kept(LIKELY.log())


def test_a_repetition_penalty_lessens_what_was_seen_on_both_sides_of_zero() -> None:
    logits, seen = torch.tensor([[3.0, -3.0, 3.0, -3.0]]), torch.tensor([[True, True, False, False]])
    assert penalise(logits, seen, 1.5).tolist() == [[2.0, -4.5, 3.0, -3.0]]


def test_a_draw_falls_where_the_probabilities_add_up_to_it() -> None:
    found = [
        int(draw(LIKELY.log(), torch.tensor([uniform]))) for uniform in (0.0, 0.14, 0.16, 0.64, 0.66, 0.71, 0.9999)
    ]
    assert found == [0, 0, 1, 1, 2, 3, 3]
    ends = torch.tensor([[-math.inf, 0.0, 0.0, -math.inf]])
    assert [int(draw(ends, torch.tensor([uniform], dtype=torch.float64))) for uniform in (0.0, 1 - 2**-32)] == [1, 2]


def test_filters_work_one_after_another_in_the_order_that_is_told() -> None:
    # Top-k leaves 0.53, 0.32, 0.16 of 0.5, 0.3, 0.15, so that 0.5 reaches top-p; over all four it would not.
    both = Sampling(temperature=1, top_k=3, top_p=0.52)
    assert {chosen(both, uniform) for uniform in (0.0, 0.999)} == {1}
    assert {chosen(Sampling(temperature=1, top_k=None, top_p=0.52), uniform) for uniform in (0.0, 0.999)} == {1, 3}
    # The temperature comes before top-p: a warm one lets more in.
    warm = Sampling(temperature=100, top_k=None, top_p=0.52)
    assert {chosen(warm, uniform) for uniform in (0.0, 0.5, 0.999)} == {0, 1, 3}
    # The penalty comes before all: what was seen is out of the first two.
    seen = torch.tensor([[False, True, False, False]])
    penalised = Sampling(temperature=0, repetition_penalty=4)
    assert chosen(penalised, 0.5, seen_BV=seen) == 3


def test_what_is_not_allowed_is_never_chosen_and_takes_no_place_in_a_filter() -> None:
    allowed = torch.tensor([[True, False, True, False]])
    assert chosen(GREEDY, 0.5, allowed_BV=allowed) == 0
    narrow = Sampling(temperature=1, top_k=2)
    assert {chosen(narrow, uniform, allowed_BV=allowed) for uniform in (0.0, 0.5, 0.9999)} == {0, 2}


def test_rows_are_chosen_each_by_itself() -> None:
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    uniform, allowed = torch.linspace(0, 0.99, 5), torch.ones(5, 40, dtype=torch.bool)
    rule = Sampling(temperature=1.3, top_k=20, top_p=0.9, min_p=0.01)
    together = choose(logits, rule, allowed_BV=allowed, seen_BV=None, uniform_B=uniform).tolist()
    alone = [
        int(choose(logits[i : i + 1], rule, allowed_BV=allowed[:1], seen_BV=None, uniform_B=uniform[i : i + 1]))
        for i in range(5)
    ]
    assert together == alone


@pytest.mark.parametrize(
    "wrong",
    [
        *({"temperature": -0.1}, {"temperature": math.nan}, {"temperature": math.inf}, {"top_k": 0}, {"top_p": 0.0}),
        *({"top_p": 1.1}, {"min_p": -0.1}, {"repetition_penalty": 0.0}, {"seed": -1}, {"max_tokens": 0}),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]
