"""The frame of `make torture`: groups by name, one table, and an exit code that tells of a loss."""

import sys
import types
from collections.abc import Iterable
from pathlib import Path

import pytest
from torture import run
from torture.table import Line


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The only group there is; what `run.main` changes for its children is put back."""
    for name in ("PYTHONPATH", "OMP_NUM_THREADS", "DATAPREP_ROOT"):
        monkeypatch.setenv(name, "")
    made = types.ModuleType("torture.made_up")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    monkeypatch.setattr(run, "groups", lambda: ["made_up"])
    monkeypatch.setattr(sys, "argv", ["run.py", "--kills", "3"])
    return made


@pytest.mark.parametrize("lost", [0, 1])
def test_the_exit_code_tells_whether_anything_was_lost(
    lost: int, group: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def torture(work: Path, *, kills: int) -> Iterable[Line]:
        assert work.is_dir()
        yield Line(fault="a fault", tries=kills, survived=2, reported=1 - lost, lost=lost, note="noted")

    group.torture = torture  # type: ignore[attr-defined]
    assert run.main() == lost
    *_, line, total = capsys.readouterr().out.splitlines()
    assert line.split() == ["a", "fault", "3", "2", str(1 - lost), str(lost), "noted"]
    assert total.split() == ["all", "of", "them", "3", "2", str(1 - lost), str(lost)]


@pytest.mark.usefixtures("group")
def test_a_group_that_breaks_has_lost_a_try_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main() == 1  # it has no `torture`
    said = capsys.readouterr()
    assert "made_up: the group itself broke" in said.out
    assert "AttributeError" in said.err


@pytest.mark.usefixtures("group")
def test_a_group_that_does_not_exist_is_a_mistake_that_names_those_that_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--only", "disc"])
    with pytest.raises(SystemExit, match="2"):
        run.main()
    assert "no group disc; there are: made_up" in capsys.readouterr().err


def test_every_try_ends_one_way_or_another() -> None:
    with pytest.raises(ValueError, match="3 tries are not the sum"):
        Line(fault="a fault", tries=3, survived=1, reported=1, lost=0)


def test_the_groups_are_the_modules_that_have_something_to_try() -> None:
    assert "kills" in run.groups()
    assert not {"run", "table"} & {*run.groups()}
