"""Plans that leave out what weights hold, after any history of crashes, rewinds and forks, token by token."""

import re
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from held import VOCAB, hold_shard, request
from hypothesis import given, settings
from hypothesis import strategies as st
from trained import Run, Token, rows_of, train_at_random, trash

from dataprep.errors import BudgetError, DataError
from dataprep.paths import Paths
from dataprep.plan import publish_plan
from dataprep.planner import make_plan
from dataprep.recipe import Recipe, load_recipe, publish_recipe
from dataprep.seen import settle_runs

SETTINGS = settings(max_examples=40, deadline=None)


def hold(paths: Paths, rng: Random, n_sources: int) -> dict[str, set[Token]]:
    """Random shards with masks: the tokens of every source."""
    tokens: dict[str, set[Token]] = {}
    for i in range(n_sources):
        for number in range(rng.randint(1, 3)):
            lengths = [rng.choice([0, rng.randint(1, 12), rng.randint(1, 40)]) for _ in range(rng.randint(3, 12))] + [
                30
            ]
            loss = [int(rng.random() < 0.5) for _ in range(sum(lengths) - 2)] + [1, 0]
            hold_shard(paths, f"source{i}", number, lengths, loss=loss)
            mine = {(f"source{i}", f"shard_{number:05d}", token) for token in range(sum(lengths))}
            tokens.setdefault(f"source{i}", set()).update(mine)
        hold_shard(paths, f"source{i}", 9, [50], split="holdout", loss=[1] * 50)
    return tokens


def packed(paths: Paths, name: str, mix: list[int], **asked: Any) -> Recipe:
    recipe, segments = make_plan(paths, VOCAB, request(mix, **asked), name)
    plan_bytes, plan_sha256 = publish_plan(paths, name, segments, recipe.shards)
    recipe = replace(recipe, plan_bytes=plan_bytes, plan_sha256=plan_sha256)
    publish_recipe(paths, recipe)
    return recipe


def assert_nothing_is_twice_and_nothing_lost(
    paths: Paths, recipe: Recipe, tokens: dict[str, set[Token]], seen: frozenset[Token]
) -> None:
    planned = [token for row in rows_of(paths, recipe) for token in row]
    times = set(Counter(planned).values())
    assert times <= {recipe.epochs}
    assert not seen & set(planned)
    for source in recipe.sources:
        held = tokens[source.source]
        assert source.seen_tokens == len(held & seen)
        assert source.unique_tokens == len(held & set(planned))
        assert source.held_out_tokens == 50
        known = source.unique_tokens + source.excluded_tokens + source.left_over_tokens + source.dropped_tokens
        assert known == len(held)
        assert min(source.left_over_tokens, source.excluded_tokens - source.seen_tokens) >= 0
        if recipe.loss == "all":
            assert source.excluded_tokens == source.seen_tokens


asked_for = st.fixed_dictionaries(
    {
        "seq_len": st.integers(2, 20),
        "strategy": st.sampled_from(["concat", "best-fit", "pad"]),
        "loss": st.sampled_from(["all", "assistant"]),
        "long": st.sampled_from(["split", "truncate"]),
        "shuffle": st.sampled_from(["rows", "documents"]),
        "seed": st.integers(0, 5),
        "epochs": st.integers(1, 2),
    }
)


@SETTINGS
@given(seed=st.integers(0, 2**32), asked=st.lists(asked_for, min_size=3, max_size=3), n_sources=st.integers(1, 3))
def test_no_token_is_twice_and_none_is_lost_over_runs_forks_and_forks_of_forks(
    seed: int, asked: list[dict[str, Any]], n_sources: int
) -> None:
    rng = Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        paths, parent, held = Paths(root=Path(folder)), None, frozenset()
        tokens = hold(paths, rng, n_sources)
        for generation, settings_ in enumerate(asked):
            mix, exclude = (
                [rng.randint(1, 9) for _ in range(n_sources)],
                (f"{parent[0]}@{parent[1]}",) if parent else (),
            )
            try:
                recipe = packed(paths, f"mix{generation}", mix, exclude_seen=exclude, **settings_)
            except (BudgetError, DataError) as error:  # a source has nothing left, or too little for its share
                if parent and re.search("has not seen|smaller than one row", str(error)):
                    return
                raise
            assert_nothing_is_twice_and_nothing_lost(paths, recipe, tokens, held)
            run = Run(paths, f"run{generation}", recipe, parent, held)
            train_at_random(run, rng, [rng.randint(0, 5) for _ in range(rng.randint(1, 4))])
            step = rng.choice(list(run.saved))
            parent, held = (f"run{generation}", step), run.saved[step][1]


@SETTINGS
@given(seed=st.integers(0, 2**32), seq_len=st.integers(2, 20), n_sources=st.integers(1, 3))
def test_concat_goes_on_with_exactly_the_rows_that_were_not_seen(seed: int, seq_len: int, n_sources: int) -> None:
    rng = Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(root=Path(folder))
        hold(paths, rng, n_sources)
        whole = [
            {
                tuple(row)
                for row in rows_of(paths, packed(paths, "all", [1], seq_len=seq_len, shares=((f"source{i}",),)))
            }
            for i in range(n_sources)
        ]
        first = packed(paths, "first", [rng.randint(1, 9) for _ in whole], seq_len=seq_len)
        run = Run(paths, "run", first)
        run.start(batch_rows=2)
        while run.row < first.plan_rows * 2 // 5:
            run.take_step()
        run.save()
        for i, rows in enumerate(whole):
            asked = {"shares": ((f"source{i}",),), "exclude_seen": (f"run@{run.step}",)}
            left = {tuple(row) for row in rows_of(paths, packed(paths, "left", [1], seq_len=seq_len, seed=3, **asked))}
            assert left == {row for row in rows if not set(row) & run.weights}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """One source of 200 tokens, `web` its 20 rows, and `base`, which saved step 6 and computed 7 and 8 in vain."""
    paths = Paths(root=tmp_path)
    hold_shard(paths, "source0", 0, [25] * 8)
    base = Run(paths, "base", packed(paths, "web", [1], seq_len=10))
    base.start(batch_rows=2)
    for _ in range(6):
        base.take_step()
    base.save()
    base.take_step()
    base.take_step()
    return paths


def again(paths: Paths, *exclude_seen: str) -> Recipe:
    return packed(paths, "more", [1], seq_len=10, exclude_seen=exclude_seen)


def test_rows_lost_in_a_crash_are_not_excluded(paths: Paths) -> None:
    recipe = again(paths, "base@6")
    assert (recipe.plan_rows, recipe.sources[0].seen_tokens, recipe.sources[0].excluded_tokens) == (8, 120, 120)


def test_the_same_weights_give_the_same_recipe_and_other_weights_another(paths: Paths) -> None:
    first = again(paths, "base@6")
    assert again(paths, "base@6") == first
    web = packed(paths, "web", [1], seq_len=10)
    other = Run(paths, "other", web)
    other.start(batch_rows=2)
    for _ in range(6):
        other.take_step()
    other.save()
    both = again(paths, "base@6", "other@6")
    assert (both.rows_sha256, both.seen_sha256) == (first.rows_sha256, first.seen_sha256)
    assert both.sha256 != first.sha256  # it was asked for otherwise
    other.take_step()
    other.save()
    assert again(paths, "base@6", "other@7").seen_sha256 != first.seen_sha256


def test_other_weights_under_the_same_step_are_another_recipe(paths: Paths) -> None:
    first = again(paths, "base@6")
    anew = Run(paths, "base", load_recipe(paths, "web"))
    anew.start(batch_rows=1)
    for _ in range(6):
        anew.take_step()
    anew.save()
    second = again(paths, "base@6")
    assert (second.exclude_seen, second.sources[0].seen_tokens) == (first.exclude_seen, 60)
    assert replace(first, seen_sha256=second.seen_sha256).sha256 == second.sha256 != first.sha256


def test_a_recipe_that_excludes_nothing_is_the_recipe_it_always_was(paths: Paths) -> None:
    recipe = packed(paths, "web", [1], seq_len=10)
    assert recipe.sha256 == "8dc8052138b0053d46fc5b9a4af995463a6ec2ff1b8467703be2dd7f849e2d13"
    assert "seen" not in (paths.recipes / "web.toml").read_text()


def test_a_run_in_the_trash_is_still_excluded(paths: Paths) -> None:
    before = again(paths, "base@6")
    trash(paths, "base")
    assert again(paths, "base@6") == before
    assert settle_runs(paths, [("base", None)], ()) == ("base@6",)


def test_what_everything_was_seen_of_is_refused_by_name(paths: Paths) -> None:
    every = Run(paths, "every", packed(paths, "web", [1], seq_len=10))
    every.start(batch_rows=20)
    every.take_step()
    every.save()
    for strategy in ("concat", "best-fit", "pad"):
        with pytest.raises(DataError, match="source0 has no token that every@1 has not seen to give"):
            packed(paths, "none", [1], seq_len=10, strategy=strategy, exclude_seen=("every@1",))


def test_only_the_shards_that_are_drawn_from_count(paths: Paths) -> None:
    hold_shard(paths, "source1", 0, [30])
    recipe = packed(paths, "other", [1], seq_len=10, shares=(("source1",),), exclude_seen=("base@6",))
    assert (recipe.sources[0].seen_tokens, recipe.tokens) == (0, 30)


def test_what_is_cut_behind_a_seen_run_is_not_dropped_twice(paths: Paths) -> None:
    # Document 1 is tokens 25 to 50; the run saw 30 to 40 of it: pieces 25+5 and 40+10, cut to 3 tokens each.
    segments = make_plan(paths, VOCAB, request([1], seq_len=10), "web")[1]
    row = int(segments.row[segments.start == 30][0])
    recipe = packed(paths, "one", [1], seq_len=10)
    one = Run(paths, "one", recipe)
    one.start(batch_rows=1)
    one.row = row
    one.take_step()
    one.records[0]["rows_done"] = row
    one.save()
    cut, segments = make_plan(
        paths,
        VOCAB,
        request([1], seq_len=3, strategy="pad", long="truncate", exclude_seen=("one@1",)),
        None,
    )
    starts = np.sort(segments.start)
    assert starts.tolist() == [0, 25, 40, 50, 75, 100, 125, 150, 175]
    assert (cut.tokens, cut.dropped_tokens, cut.sources[0].excluded_tokens) == (27, 200 - 10 - 27, 10)
