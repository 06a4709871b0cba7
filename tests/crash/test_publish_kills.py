"""Every command killed with SIGKILL, again and again, publishes what an undisturbed run does: the quick share.

`make torture KILLS=1000 ONLY=kills` does the same for longer, and to the trainer; test_run_kills.py is its quick share.
"""

from pathlib import Path

import pytest
from crash import replaced_export
from crash.kills import lost_steps
from torture.kills import SHARES, killing, line_of

from train.export.folder import stands

MILLS, DERIVERS, KEEPERS, *_WITH_TORCH = SHARES


@pytest.mark.parametrize(
    ("commands", "n_kills"),
    [
        (MILLS, {"moment": 3, "step": 9, "change": 9}),
        ((*DERIVERS, *KEEPERS), {"moment": 1, "step": 4, "change": 5}),
    ],
)
def test_commands_killed_again_and_again_publish_what_an_undisturbed_run_does(
    commands: tuple[str, ...], n_kills: dict[str, int], tmp_path: Path
) -> None:
    told = list(killing(tmp_path, commands, n_kills))
    assert [each["differences"] for each in told] == [[]] * len(told)
    assert {(each["command"], each["kind"]): each["kills"] for each in told} == {
        (command, kind): kills for command in commands for kind, kills in n_kills.items()
    }
    assert all(line_of(each).lost == 0 for each in told)


def test_the_command_line_is_killed_at_a_named_step_by_a_variable_that_only_the_tests_know(tmp_path: Path) -> None:
    (told,) = killing(tmp_path, ("index",), {"as typed": 2})
    assert (told["kills"], told["differences"]) == (2, [])


@pytest.mark.parametrize(
    ("sabotage", "seen"),
    [
        ("written in place", "neither as before nor as after"),
        ("nothing swept", "a temp is left"),
    ],
)
def test_a_promise_that_is_broken_on_purpose_is_found(sabotage: str, seen: str, tmp_path: Path) -> None:
    (told,) = killing(tmp_path, ("shards",), {"step": 6}, sabotage=sabotage)
    assert any(seen in difference for difference in told["differences"])
    assert line_of(told).lost > 0


def test_a_ledger_that_a_kill_made_shorter_is_found_though_the_run_ends_with_the_same_bytes() -> None:
    assert lost_steps({"journal": [1, 2, 3], "bin": "a"}, {"journal": [1], "bin": "b"}) == [
        "journal: 2 steps less are in the weights"
    ]
    assert lost_steps({"journal": [1]}, {"journal": [1, 2]}) == []


def test_an_export_killed_between_its_two_renames_is_there_whatever_is_asked_next(tmp_path: Path) -> None:
    folder, of = tmp_path / "export", {"word": "after"}
    replaced_export.main([str(folder), "after"])
    folder.rename(tmp_path / ".export.new.part")  # what a kill left: the old one is aside, the new one has no name yet
    assert stands(folder, of, force=False)
    assert [file.name for file in tmp_path.iterdir()] == ["export"]
