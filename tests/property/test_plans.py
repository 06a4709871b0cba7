"""Plans of every strategy, unit and policy, held to what can be counted by brute force."""

import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from held import VOCAB, hold_shard, request
from hypothesis import given, settings
from hypothesis import strategies as st

from dataprep.errors import BudgetError, DataError
from dataprep.packing import Segments
from dataprep.paths import Paths
from dataprep.planner import make_plan
from dataprep.recipe import Recipe

SETTINGS = settings(max_examples=60, deadline=None)
Held = list[list[tuple[list[int], list[int]]]]  # per source, per shard: document lengths, loss mask


@st.composite
def held_sources(draw: st.DrawFn, most: int = 4) -> tuple[list[int], Held]:
    """A ratio, and for each of its sources one to three shards of documents with loss masks."""
    mix = draw(st.lists(st.integers(1, 9), min_size=1, max_size=most))
    held = []
    for _ in mix:
        shards = draw(st.lists(st.lists(st.integers(0, 25), min_size=1, max_size=9), min_size=1, max_size=3))
        shards[0].append(8)  # something is there
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        masks = [(rng.random(sum(lengths)) < 0.4).astype(int) for lengths in shards]
        masks[0][-2] = 1  # and something counts
        held.append([(lengths, mask.tolist()) for lengths, mask in zip(shards, masks, strict=True)])
    return mix, held


def plan_of(held: Held, mix: list[int], **asked: Any) -> tuple[Recipe, Segments]:
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(root=Path(folder))
        for i, shards in enumerate(held):
            for number, (lengths, loss) in enumerate(shards):
                hold_shard(paths, f"source{i}", number, lengths, loss=loss)
        return make_plan(paths, VOCAB, request(mix, **asked), None)


def targets(segments: Segments) -> list[tuple[int, int, int]]:
    """(row, shard, token) of every target."""
    runs = zip(*(getattr(segments, name).tolist() for name in ("row", "shard", "start", "length")), strict=True)
    return [(row, shard, start + i) for row, shard, start, length in runs for i in range(length)]


def masks_by_shard(held: Held) -> list[list[int]]:
    return [loss for shards in held for _, loss in shards]


def ends_by_shard(held: Held) -> list[set[int]]:
    """Of each shard, the tokens that end a document."""
    return [set((np.cumsum([n for n in lengths if n]) - 1).tolist()) for shards in held for lengths, _ in shards]


asked_for = st.fixed_dictionaries(
    {
        "seq_len": st.integers(2, 20),
        "strategy": st.sampled_from(["concat", "best-fit", "pad"]),
        "unit": st.sampled_from(["tokens", "loss-tokens", "documents"]),
        "loss": st.sampled_from(["all", "assistant"]),
        "long": st.sampled_from(["split", "truncate"]),
        "shuffle": st.sampled_from(["rows", "documents"]),
        "seed": st.integers(0, 5),
    }
)


@SETTINGS
@given(mix_and_held=held_sources(), asked=asked_for)
def test_a_plan_of_any_kind_is_what_its_recipe_says(
    mix_and_held: tuple[list[int], Held], asked: dict[str, Any]
) -> None:
    mix, held = mix_and_held
    recipe, segments = plan_of(held, mix, **asked)
    found = targets(segments)
    assert len(set(found)) == len(found) == recipe.tokens  # nothing twice
    assert len({(shard, token) for _, shard, token in found}) == recipe.tokens
    assert sorted({row for row, _, _ in found}) == list(range(recipe.plan_rows))
    assert max(Counter(row for row, _, _ in found).values()) <= recipe.seq_len

    loss, ends = masks_by_shard(held), ends_by_shard(held)
    counts = [loss[shard][token] if asked["loss"] == "assistant" else 1 for _, shard, token in found]
    assert sum(counts) == recipe.loss_tokens
    by_row: dict[int, Counter[str]] = defaultdict(Counter)
    for (row, shard, token), counted in zip(found, counts, strict=True):
        by_row[row].update({"loss-tokens": counted, "documents": int(token in ends[shard])})
    assert all(by_row[row]["loss-tokens"] for row in by_row)  # no row without a loss target
    assert sum(row["documents"] for row in by_row.values()) == recipe.documents

    assert_every_token_is_accounted_for(recipe, held)
    source_of = {row: int(recipe.shards[shard].source.removeprefix("source")) for row, shard, _ in found}
    units = [1 if asked["unit"] == "tokens" else by_row[row][asked["unit"]] for row in range(recipe.plan_rows)]
    assert max(units) <= recipe.largest_row
    assert_prefixes_hold(mix, [source_of[row] for row in range(recipe.plan_rows)], units, recipe.largest_row)


def assert_every_token_is_accounted_for(recipe: Recipe, held: Held) -> None:
    for source, shards in zip(recipe.sources, held, strict=True):
        known = source.unique_tokens + source.excluded_tokens + source.left_over_tokens + source.dropped_tokens
        assert known == sum(sum(lengths) for lengths, _ in shards)
        assert source.left_over_tokens >= 0


def assert_prefixes_hold(mix: list[int], sources: list[int], units: list[int], one_row: int) -> None:
    total, everything, given_by = sum(mix), 0, [0] * len(mix)
    for source, unit in zip(sources, units, strict=True):
        everything += unit
        given_by[source] += unit
        for part, mine in zip(mix, given_by, strict=True):
            assert abs(mine * total - everything * part) <= total * one_row


@SETTINGS
@given(mix_and_held=held_sources(most=3), strategy=st.sampled_from(["best-fit", "pad"]), seq_len=st.integers(2, 20))
def test_split_documents_reassemble_to_the_original(
    mix_and_held: tuple[list[int], Held], strategy: str, seq_len: int
) -> None:
    _, held = mix_and_held
    shards = held[0]
    recipe, segments = plan_of([shards], [1], strategy=strategy, seq_len=seq_len)
    assert recipe.sources[0].left_over_tokens == recipe.sources[0].dropped_tokens == 0
    for number, (lengths, _) in enumerate(shards):
        starts = np.cumsum([0, *lengths])
        runs = segments[segments.shard == number]
        for start, length in zip(starts.tolist(), lengths, strict=False):
            inside = runs[(runs.start >= start) & (runs.start < start + length)]
            pieces = sorted(zip(inside.start.tolist(), inside.length.tolist(), strict=True))
            assert [p for p, _ in pieces] == [start + i * seq_len for i in range(-(-length // seq_len))]
            assert sum(n for _, n in pieces) == length


@SETTINGS
@given(mix_and_held=held_sources(most=3), seq_len=st.integers(2, 20), unit=st.sampled_from(["tokens", "documents"]))
def test_repeating_gives_whole_passes_and_never_more_than_allowed(
    mix_and_held: tuple[list[int], Held], seq_len: int, unit: str
) -> None:
    mix, held = mix_and_held
    asked = {"seq_len": seq_len, "on_short": "repeat", "max_passes": 3, "unit": unit, "strategy": "best-fit"}
    recipe, segments = plan_of(held, mix, **asked)
    for number, source in enumerate(recipe.sources):
        mine = [(s, t) for _, s, t in targets(segments) if recipe.shards[s].source == f"source{number}"]
        times = Counter(mine)
        assert source.passes == max(times.values(), default=1) <= 3
        # Whole passes: nothing is used a third time before everything was used twice.
        held_tokens = sum(sum(lengths) for lengths, _ in held[number])
        assert source.unique_tokens == len(times)
        if source.passes > 1:
            assert (len(times), min(times.values())) == (held_tokens, source.passes - 1) or len(
                set(times.values())
            ) == 1


def test_epochs_repeat_the_same_rows_in_another_order() -> None:
    held: Held = [[([5] * 12, [1] * 60)], [([7] * 12, [1] * 84)]]
    once, _ = plan_of(held, [1, 2], seq_len=6)
    recipe, segments = plan_of(held, [1, 2], seq_len=6, epochs=3)
    assert (recipe.plan_rows, recipe.tokens) == (3 * once.plan_rows, 3 * once.tokens)
    assert [source.passes for source in recipe.sources] == [3, 3]
    epochs = [sorted((s, t) for row, s, t in targets(segments) if row // once.plan_rows == epoch) for epoch in range(3)]
    assert epochs[0] == epochs[1] == epochs[2]
    firsts = [segments.start[np.searchsorted(segments.row, once.plan_rows * epoch)] for epoch in range(3)]
    assert len(set(firsts)) > 1


def test_joined_sources_share_in_proportion_to_their_supply() -> None:
    held: Held = [[([10] * 30, [1] * 300)], [([10] * 10, [1] * 100)], [([10] * 30, [1] * 300)]]
    shares = (("source0",), ("source1", "source2"))
    recipe, _ = plan_of(held, [1, 1], seq_len=10, shares=shares, budget_tokens=400)
    assert [(s.share, s.asked, s.plan_rows) for s in recipe.sources] == [(0, 1, 20), (1, 1, 5), (1, 1, 15)]


BUDGETS: dict[str, tuple[dict[str, Any], str | tuple[int, int]]] = {
    "rows": ({"budget_tokens": 59}, (5, 45)),
    "source tokens": ({"budget_source_tokens": 59}, (6, 54)),  # rows of 9 tokens and one pad
    "loss tokens": ({"budget_loss_tokens": 17, "loss": "assistant"}, (5, 15)),
    "more than there is": ({"budget_tokens": 500}, "cannot supply its share"),
    "more source tokens": ({"budget_source_tokens": 500}, "not that many source tokens"),
    "shrunk": ({"budget_tokens": 500, "on_short": "shrink"}, (20, 180)),
    "repeated": ({"budget_tokens": 500, "on_short": "repeat"}, (50, 450)),
    "repeated too often": ({"budget_tokens": 900, "on_short": "repeat"}, "in 4 passes"),
    "nothing": ({"budget_tokens": 9}, "smaller than one row"),
    "no loss": ({"budget_loss_tokens": 2, "loss": "assistant"}, "less than one row"),
}


@pytest.mark.parametrize(("asked", "wanted"), BUDGETS.values(), ids=BUDGETS)
def test_budgets_count_what_they_say(asked: dict[str, Any], wanted: str | tuple[int, int]) -> None:
    held: Held = [[([9] * 20, [0, 0, 0, 0, 0, 1, 1, 1, 0] * 20)]]
    usual: dict[str, Any] = {"seq_len": 10, "strategy": "pad"}
    if isinstance(wanted, str):
        with pytest.raises(BudgetError, match=wanted):
            plan_of(held, [1], **usual | asked)
    else:
        recipe, _ = plan_of(held, [1], **usual | asked)
        counted = recipe.loss_tokens if "loss" in asked else recipe.tokens
        assert (recipe.plan_rows, counted) == wanted


def test_documents_without_a_loss_target_are_excluded_and_counted() -> None:
    held: Held = [[([4, 4, 4], [0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1, 0])]]
    recipe, segments = plan_of(held, [1], seq_len=4, strategy="best-fit", loss="assistant")
    assert sorted(segments.start.tolist()) == [0, 8]
    assert (recipe.loss_tokens, recipe.sources[0].excluded_tokens) == (4, 4)
    with pytest.raises(DataError, match="no loss token to give"):
        plan_of([[([4], [0] * 4)]], [1], seq_len=4, loss="assistant")


def test_the_order_in_which_shards_arrived_does_not_matter(tmp_path: Path) -> None:
    lengths, plans = [[5, 9, 30], [12, 1], [7, 7, 7, 40]], []
    for arrival in ([0, 1, 2], [2, 0, 1]):
        paths = Paths(root=tmp_path / str(arrival))
        for number in arrival:
            hold_shard(paths, "source0", number, lengths[number], loss=[1] * sum(lengths[number]))
        asked = request([1], seq_len=8, strategy="best-fit", loss="assistant", unit="loss-tokens")
        plans.append(make_plan(paths, VOCAB, asked, None)[0])
    assert plans[0] == plans[1]
