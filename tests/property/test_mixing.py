"""The mixing rule, held to its bound in integers: no float decides whether a test passes."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataprep.mixing import feasible_rows, one_period, order_by_units, reduce_weights, rows_of, source_order

SETTINGS = settings(max_examples=120, deadline=None)
weights = st.lists(st.integers(1, 60), min_size=1, max_size=12)
skewed_weights = st.lists(st.sampled_from([1, 2, 3, 10, 100, 300]), min_size=1, max_size=12)
any_weights = st.one_of(weights, skewed_weights)


def assert_within_tijdeman(weights: Sequence[int], order: np.ndarray) -> None:
    """After every row, |count - n·w/W| ≤ 1 - 1/(2k - 2), multiplied by W(2k - 2) so that it is exact."""
    n_rows, total, k = np.arange(1, len(order) + 1, dtype=np.int64), sum(weights), len(weights)
    for i, weight in enumerate(weights):
        off = np.abs(np.cumsum(order == i, dtype=np.int64) * total - n_rows * weight)
        assert (off * max(1, 2 * k - 2) <= total * max(0, 2 * k - 3)).all(), (i, int(off.argmax()) + 1)


def largest_deficit_first(weights: Sequence[int], n_rows: int) -> np.ndarray:
    """The simpler rule that this project does not use."""
    total, counts, order = sum(weights), [0] * len(weights), []
    for row in range(1, n_rows + 1):
        deficits = [row * weight - count * total for weight, count in zip(weights, counts, strict=True)]
        order.append(max(range(len(weights)), key=deficits.__getitem__))
        counts[order[-1]] += 1
    return np.array(order)


@pytest.mark.parametrize("mix", [(1,), (30, 70), (5, 2, 1), (1, 1, 1), (999, 1), (1, 1, 15, 15, 15)])
def test_every_prefix_of_a_common_mix_is_within_one_row_of_exact(mix: tuple[int, ...]) -> None:
    assert_within_tijdeman(mix, source_order(mix, 3 * sum(mix) + 1))


@SETTINGS
@given(mix=any_weights)
def test_every_prefix_of_any_mix_of_up_to_twelve_sources_keeps_tijdemans_bound(mix: list[int]) -> None:
    assert_within_tijdeman(mix, source_order(mix, 2 * sum(mix) + 3))


@SETTINGS
@given(mix=st.lists(st.integers(1, 10**12), min_size=2, max_size=12))
def test_weights_far_above_the_number_of_rows_keep_the_bound_without_overflow(mix: list[int]) -> None:
    order = one_period(mix, 200)
    counts = [0] * len(mix)
    total, scale = sum(mix), 2 * len(mix) - 2
    for n_rows, chosen in enumerate(order.tolist(), 1):
        counts[chosen] += 1
        off = [abs(count * total - n_rows * weight) for count, weight in zip(counts, mix, strict=True)]
        assert max(off) * scale <= total * (scale - 1)


def test_largest_deficit_first_strays_beyond_one_row_where_ours_does_not() -> None:
    mix = (1, 1, 15, 15, 15)
    naive = np.cumsum(np.equal.outer(range(5), largest_deficit_first(mix, 47)), axis=1)
    off = np.abs(naive * 47 - np.outer(mix, np.arange(1, 48)))
    assert off.max() == 48  # 48/47 of a row: this is why the rule is Tijdeman's
    assert_within_tijdeman(mix, source_order(mix, 47))


@SETTINGS
@given(mix=any_weights)
def test_one_period_holds_exactly_the_weights_and_repeats(mix: list[int]) -> None:
    reduced = reduce_weights(mix)
    period = one_period(mix)
    assert np.bincount(period, minlength=len(mix)).tolist() == list(reduced)
    assert source_order(mix, 2 * len(period)).tolist() == period.tolist() * 2


@SETTINGS
@given(mix=any_weights, factor=st.integers(1, 9), n_rows=st.integers(0, 400))
def test_a_ratio_and_its_multiple_are_the_same_mix(mix: list[int], factor: int, n_rows: int) -> None:
    multiple = [weight * factor for weight in mix]
    assert source_order(multiple, n_rows).tolist() == source_order(mix, n_rows).tolist()


@SETTINGS
@given(mix=any_weights, n_rows=st.integers(0, 1500), more=st.integers(0, 300))
def test_a_shorter_plan_is_a_prefix_of_a_longer_one(mix: list[int], n_rows: int, more: int) -> None:
    assert source_order(mix, n_rows + more)[:n_rows].tolist() == source_order(mix, n_rows).tolist()


@SETTINGS
@given(mix=any_weights, n_rows=st.integers(0, 3000))
def test_rows_of_counts_what_source_order_holds(mix: list[int], n_rows: int) -> None:
    counted = np.bincount(source_order(mix, n_rows), minlength=len(mix)).tolist()
    assert rows_of(mix, n_rows) == counted
    assert sum(counted) == n_rows


@st.composite
def mixes_and_supplies(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    mix = draw(any_weights)
    held = draw(st.lists(st.integers(0, 150), min_size=len(mix), max_size=len(mix)))
    return mix, held


@SETTINGS
@given(mix_and_held=mixes_and_supplies())
def test_feasible_rows_fit_and_one_more_row_does_not(mix_and_held: tuple[list[int], list[int]]) -> None:
    mix, held = mix_and_held
    most = feasible_rows(mix, held)
    assert all(need <= have for need, have in zip(rows_of(mix, most), held, strict=True))
    assert any(need > have for need, have in zip(rows_of(mix, most + 1), held, strict=True))


@st.composite
def unequal_rows(draw: st.DrawFn) -> tuple[list[int], list[np.ndarray]]:
    """Two to twelve weights, and for each source rows of 0 to some most units, dense or sparse."""
    mix = draw(st.lists(st.integers(1, 60), min_size=2, max_size=12))
    most, rng = draw(st.sampled_from([1, 5, 256])), np.random.default_rng(draw(st.integers(0, 9999)))
    typical = [draw(st.sampled_from([0.0, 0.05, 0.5, 1.0])) for _ in mix]
    return mix, [np.clip(rng.normal(t, 0.3, 150) * most, 0, most).astype(np.int64) for t in typical]


@SETTINGS
@given(mix_and_units=unequal_rows())
def test_every_prefix_of_unequal_rows_is_within_one_row_in_their_unit(
    mix_and_units: tuple[list[int], list[np.ndarray]],
) -> None:
    mix, units = mix_and_units
    given_by, taken, total, everything = [0] * len(mix), [0] * len(mix), sum(mix), 0
    largest = max(int(column.max()) for column in units)
    for chosen in order_by_units(mix, units, 600).tolist():
        row = int(units[chosen][taken[chosen]])
        taken[chosen] += 1
        given_by[chosen] += row
        everything += row
        off = [abs(mine * total - everything * part) for mine, part in zip(given_by, mix, strict=True)]
        assert max(off) <= total * largest


@given(mix=st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_with_equal_rows_the_rule_of_units_is_the_rule_of_rows(mix: list[int]) -> None:
    n_rows = sum(reduce_weights(mix))
    ones = [np.ones(n_rows, dtype=np.int64)] * len(mix)
    assert order_by_units(mix, ones, n_rows).tolist() == one_period(mix).tolist()
