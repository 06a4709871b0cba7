"""Mixing: which source each row of a plan comes from, in integers.

In:  integer weights and the rows each source can give. Out: the order of sources, row by row.
Holds: after every row, each source's count is within one row of its exact share.

Weights 3:7, the first ten rows: 1 0 1 1 0 1 1 1 0 1 hold three 0s and seven 1s, and so does every
later ten. The rule is Tijdeman's for the chairman assignment problem (R. Tijdeman, Discrete
Mathematics 32, 1980): with k states no count is ever further than 1 - 1/(2k - 2) from its share.
"Largest deficit first" would be simpler and is wrong for k > 2: it strays beyond one row.
"""

import math
from collections.abc import Sequence

import numpy as np


def reduce_weights(weights: Sequence[int]) -> tuple[int, ...]:
    """The same ratio in its smallest integers: 30:70 is 3:7."""
    divisor = math.gcd(*weights)
    return tuple(weight // divisor for weight in weights)


def one_period(weights: Sequence[int], n_rows: int | None = None) -> np.ndarray:
    """The order of one period (the sum of the weights), or its first `n_rows`: uint16[min(period, n_rows)].

    At row n (from 1) a source may be chosen once its share has run ahead of its count by 1/(2k-2):
    n·w/W - count ≥ 1/(2k-2). Of those, the one that would first fall a whole bound behind goes next.
    Everything is multiplied by W(2k-2), so no fraction is ever rounded.
    """
    reduced = reduce_weights(weights)
    period, k = sum(reduced), len(reduced)
    n_rows = period if n_rows is None else min(period, n_rows)
    if k == 1:
        return np.zeros(n_rows, dtype=np.uint16)
    scale = 2 * k - 2
    lead = [0] * k  # (n·w/W - count)·W·scale, updated row by row
    order = np.empty(n_rows, dtype=np.uint16)
    for row in range(n_rows):
        chosen, best_slack, best_weight = -1, 0, 1
        for i, weight in enumerate(reduced):
            lead[i] += weight * scale
            if lead[i] < period:
                continue
            slack = period * scale - period - lead[i]  # rows until the bound, in units of 1/weight
            if chosen < 0 or slack * best_weight < best_slack * weight:
                chosen, best_slack, best_weight = i, slack, weight
        order[row] = chosen
        lead[chosen] -= period * scale
    return order


def source_order(weights: Sequence[int], n_rows: int) -> np.ndarray:
    """The source of each of `n_rows` rows: one period, tiled. uint16[n_rows]."""
    return np.resize(one_period(weights, n_rows), n_rows)


def rows_of(weights: Sequence[int], n_rows: int) -> list[int]:
    """How many of the first `n_rows` rows each source gives."""
    reduced = reduce_weights(weights)
    period = sum(reduced)
    rest = np.bincount(one_period(reduced, n_rows % period), minlength=len(reduced))
    return [n_rows // period * weight + int(extra) for weight, extra in zip(reduced, rest, strict=True)]


def feasible_rows(weights: Sequence[int], rows_held: Sequence[int]) -> int:
    """The longest plan in this ratio that `rows_held` can fill."""
    reduced = reduce_weights(weights)
    periods = min(held // weight for held, weight in zip(rows_held, reduced, strict=True))
    order = one_period(reduced, sum(rows_held) + 1)
    prefix = len(order)
    for i, (held, weight) in enumerate(zip(rows_held, reduced, strict=True)):
        turns = np.flatnonzero(order == i)
        rest = held - periods * weight
        if rest < len(turns):
            prefix = min(prefix, int(turns[rest]))  # the first turn this source could not take
    return periods * sum(reduced) + prefix


def order_by_units(weights: Sequence[int], units: Sequence[np.ndarray], n_rows: int) -> np.ndarray:
    """The same rule where rows are not equal: uint16[≤ n_rows], shares counted in `units`.

    `units[i][j]` is what source i's jth row gives (loss tokens, or documents). A source may be chosen if
    its row does not take it more than 1 - 1/(2k-2) of the largest row ahead of its share; of those, the
    one whose share would first be that far behind goes next. With equal rows this is `one_period`.
    Ends early where the source whose turn it is has no row left. Held to one row by property tests,
    not by a theorem.
    """
    reduced, k = reduce_weights(weights), len(weights)
    scale = max(1, 2 * k - 2)
    scaled_total = scale * sum(reduced)
    largest = max((int(column.max()) for column in units if len(column)), default=0)
    bound = (scale - 1) * largest * sum(reduced) if k > 1 else 0
    queues = [column.tolist()[::-1] for column in units]
    given, everything = [0] * k, 0
    order = np.empty(n_rows, dtype=np.uint16)
    for row in range(n_rows):
        chosen, deadline, fits = 0, 0, False
        for i, weight in enumerate(reduced):
            gives = queues[i][-1] if queues[i] else 0
            i_fits = (given[i] + gives) * scaled_total - weight * (everything + gives) * scale <= bound
            i_deadline = bound + given[i] * scaled_total  # in units of 1/weight
            sooner = i_deadline * reduced[chosen] < deadline * weight
            if i == 0 or (i_fits and not fits) or (i_fits == fits and sooner):
                chosen, deadline, fits = i, i_deadline, i_fits
        if not queues[chosen]:
            return order[:row]
        gives = queues[chosen].pop()
        order[row] = chosen
        given[chosen] += gives
        everything += gives
    return order
