"""Runs: list them, look at one, move it to the trash and back, empty it, replay a history. A verb.

In:  runs/ and its trash. Out: tables, or exact JSON; folders that moved.
Holds: the ledger survives everything here: a journal is moved with its run and never deleted. No torch is loaded.
Run: python -m train.runs ls | show RUN | trash RUN | restore RUN | purge RUN | replay FILE.toml
"""

import argparse
import contextlib
import sys
from dataclasses import asdict
from pathlib import Path

from dataprep.console import print_json, print_next, size, table
from dataprep.errors import Parser, UsageError, run
from dataprep.ledger import find_journals, read_journal
from dataprep.paths import Paths, find_paths
from dataprep.quantity import name
from train.runs.history import read_history
from train.runs.overview import Overview, overview, read_all
from train.runs.page import print_page, run_page
from train.runs.replay import Replayed, replay
from train.runs.trash import bytes_of, no_such_run, purge_run, restore_run, trash_folder, trash_run

_SURE = 2  # --yes so many times stands for both answers


def main(argv: list[str] | None = None) -> int:
    """Do what the subcommand says."""
    args = _parse(argv)
    return args.act(find_paths(), args)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m train.runs", description="List, inspect, remove and replay runs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    ls = commands.add_parser("ls", help="every run: how far, what its weights hold, what it takes on disk")
    show = commands.add_parser("show", help="one run: attempts, lineage, checkpoints, children, how to go on")
    trash = commands.add_parser("trash", help="move a run to runs/.trash; the ledger keeps it")
    restore = commands.add_parser("restore", help="move a run back from the trash")
    purge = commands.add_parser("purge", help="delete a trashed run's checkpoints; its journal stays")
    replayed = commands.add_parser("replay", help="write the journals of a history that was trained elsewhere")
    for command in (show, trash, restore, purge):
        command.add_argument("run", type=name, metavar="RUN")
    for command in (ls, show, replayed):
        command.add_argument("--json", action="store_true", help="exact numbers for machines")
    trash.add_argument("--force", action="store_true", help="even where other runs descend from it")
    purge.add_argument("--yes", action="count", default=0, help="given twice, nothing is asked: --yes --yes")
    replayed.add_argument("file", type=Path, metavar="FILE.toml", help="the history: docs/formats.md")
    acts = {ls: _ls, show: _show, trash: _trash, restore: _restore, purge: _purge, replayed: _replay}
    for command, act in acts.items():
        command.set_defaults(act=act)
    return parser.parse_args(argv)


def _ls(paths: Paths, args: argparse.Namespace) -> int:
    journals = read_all(paths.runs)
    files = find_journals(paths.runs)
    lines = [overview(journals, files[run]) for run in journals]
    if args.json:
        print_json([asdict(line) for line in lines])
        return 0
    header = ["run", "stage", "recipe", "parent", "status", "rows", "in weights", "own", "lost", "loss", "kept"]
    print(table([*header, "on disk", "trashed"], [_cells(line) for line in lines]))
    for line in lines:
        if line.gap:
            print(f"note: run {line.run}: {line.gap}")
    print_next("python -m train.runs show RUN" if lines else "python train/main.py --manifest")
    return 0


def _cells(line: Overview) -> list[object]:
    planned = f"{line.plan_rows:,}" if line.plan_rows else "?"
    return [
        *(line.run, line.stage, line.recipe, line.parent or "–", line.status, f"{line.rows_done:,}/{planned}"),
        *(line.tokens_in_weights, line.own_tokens, line.tokens_not_in_weights, line.last_loss),
        *(line.checkpoints, size(line.bytes_on_disk), line.trashed_at or ""),
    ]


def _show(paths: Paths, args: argparse.Namespace) -> int:
    journals = read_all(paths.runs)
    files = find_journals(paths.runs)
    if args.run not in journals:
        if args.run in files:
            read_journal(files[args.run])  # raises, naming the damaged line
        raise no_such_run(paths, args.run)
    page = run_page(journals, files[args.run])
    print_json(page) if args.json else print_page(page)
    return 0


def _trash(paths: Paths, args: argparse.Namespace) -> int:
    n_bytes = trash_run(paths, args.run, read_all(paths.runs), force=args.force)
    print(f"run {args.run} is in the trash: {size(n_bytes)}, which only a purge frees; the ledger keeps what it saw")
    print(f"to free them: python -m train.runs purge {args.run}")
    print_next(f"python -m train.runs restore {args.run}   # brings it back")
    return 0


def _restore(paths: Paths, args: argparse.Namespace) -> int:
    restore_run(paths, args.run)
    print(f"run {args.run} is back in {paths.shown(paths.runs / args.run)}")
    print_next(f"python -m train.runs show {args.run}")
    return 0


def _purge(paths: Paths, args: argparse.Namespace) -> int:
    place = trash_folder(paths, args.run)
    if place.is_dir():
        _ask_twice(args.run, bytes_of(place), n_yes=args.yes)
    print(f"run {args.run} is purged: {size(purge_run(paths, args.run))} freed; its journal stays in the ledger")
    print_next(f"python -m train.runs show {args.run}")
    return 0


def _ask_twice(run_name: str, n_bytes: int, *, n_yes: int) -> None:
    """Return when the person is sure. Off a terminal only --yes --yes says so."""
    if n_yes >= _SURE:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"purging run {run_name!r} cannot be undone, and nobody is there to be asked",
            seen="no terminal" + (", one --yes" if n_yes else ""),
            wanted="two answers",
            fix=f"python -m train.runs purge {run_name} --yes --yes",
        )
    print(f"{size(n_bytes)} of run {run_name} will be deleted for good: all but its journal")
    sure = False
    with contextlib.suppress(EOFError):  # Ctrl-D is no answer
        sure = input("type the run's name: ").strip() == run_name and input("delete it? yes or no: ").strip() == "yes"
    if not sure:
        raise UsageError(
            "nothing was purged",
            seen="another answer",
            wanted=f"{run_name}, then yes",
            fix=f"python -m train.runs purge {run_name}",
        )


def _replay(paths: Paths, args: argparse.Namespace) -> int:
    lines = replay(paths, read_history(args.file))
    if args.json:
        print_json([asdict(line) for line in lines])
        return 0
    print(
        table(["run", "journal", "steps", "in weights", "own", "lost", "seen again"], [_told(line) for line in lines])
    )
    print_next("python -m dataprep.sql --file manifests/queries/reseen.sql")
    return 0


def _told(line: Replayed) -> list[object]:
    where = ("written" if line.written else "was there") + (", in the trash" if line.deleted else "")
    return [line.run, where, line.steps, line.tokens_in_weights, line.own_tokens, line.tokens_lost, line.reseen_tokens]


if __name__ == "__main__":
    run(main)
