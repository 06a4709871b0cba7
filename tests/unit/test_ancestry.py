"""The view `ancestry`: which of an ancestor's evaluations are of weights that a run began from, whatever came later."""

import pytest
from trained import Run

from dataprep import manifest
from dataprep.paths import SHIPPED_MANIFESTS, Paths
from dataprep.recipe import load_recipe
from dataprep.sql import ask


def judge(run: Run, value: float) -> None:
    """Held-out text, by the weights as they stand."""
    tokens = sum(len(row) for row in run._rows[: run.row])
    where = {"step": run.step, "rows_done": run.row, "tokens_done": tokens}
    run._write("eval", **where, suite="heldout-bpb", task="alpha", n=2, value=value, stderr=0.1)


@pytest.fixture
def base(paths: Paths) -> Run:
    """Six rows in three steps, judged before and after each, saved after each."""
    base = Run(paths, "base", load_recipe(paths, "mix"))
    base.start(batch_rows=2)
    judge(base, 4.0)
    for value in (3.0, 2.0, 1.0):
        base.take_step()
        base.save()
        judge(base, value)
    return base


def values(paths: Paths, run: str) -> list[float]:
    """What counts for a run, in the order of the tokens in the weights."""
    manifest.rebuild(paths)
    query = (SHIPPED_MANIFESTS / "queries" / "ability_by_tokens.sql").read_text()
    header, lines = ask(paths, query)
    return [line[header.index("value")] for line in lines if line[0] == run]


def test_an_ancestor_that_went_back_behind_the_fork_speaks_for_its_child_no_further(paths: Paths, base: Run) -> None:
    child = Run(paths, "child", load_recipe(paths, "mix"), parent=("base", 2))
    child.start(batch_rows=2)
    child.take_step()
    child.save()
    judge(child, 0.5)
    assert values(paths, "child") == [4.0, 3.0, 2.0, 0.5]
    base.start(1, batch_rows=1)  # smaller steps: other weights at the same rows
    for value in (2.9, 2.8, 2.7):
        base.take_step()
        judge(base, value)
    assert values(paths, "child") == [4.0, 3.0, 0.5], "before anything is saved anew"
    base.save()
    assert values(paths, "child") == [4.0, 3.0, 0.5]
    assert values(paths, "base") == [4.0, 3.0, 2.9, 2.8, 2.7]
    base.start(0, batch_rows=1)
    base.take_step()
    base.save()
    judge(base, 3.5)
    assert values(paths, "child") == [4.0, 0.5]


def test_an_ancestor_that_went_on_or_was_resumed_after_the_fork_speaks_up_to_it(paths: Paths, base: Run) -> None:
    child = Run(paths, "child", load_recipe(paths, "mix"), parent=("base", 3))
    child.start(batch_rows=2)
    child.take_step()
    child.save()
    base.start(3, batch_rows=1)
    base.take_step()
    judge(base, 0.9)
    base.save()
    assert values(paths, "child") == [4.0, 3.0, 2.0, 1.0]
