"""tokens.db: what it says, who may hold it, and who can open it."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from conftest import run_in

from dataprep import index, manifest, sql, verify
from dataprep.errors import DataError, UsageError
from dataprep.paths import SHIPPED_MANIFESTS, Paths
from dataprep.sql import ask

QUERIES = sorted((SHIPPED_MANIFESTS / "queries").glob("*.sql"))


def contents(paths: Paths) -> dict[str, list[tuple[object, ...]]]:
    tables = [name for (name,) in ask(paths, "SELECT table_name FROM duckdb_tables()")[1]]
    return {table: sorted(ask(paths, f"FROM {table}")[1], key=repr) for table in tables}


def test_a_deleted_database_comes_back_the_same(paths: Paths) -> None:
    before = contents(paths)
    paths.database.unlink()
    assert run_in(paths.root, index.main) == 0
    assert contents(paths) == before
    assert before["shards"]
    assert before["recipe_shards"]


def test_the_database_counts_what_the_bins_hold(paths: Paths) -> None:
    n_bytes = sum(file.stat().st_size for file in paths.all_bins.rglob("*.bin"))
    assert ask(paths, "SELECT sum(tokens)::BIGINT FROM shards")[1] == [(n_bytes // 2,)]
    assert (
        ask(paths, "SELECT sum(length)::BIGINT FROM read_parquet('" + str(paths.plans / "mix.parquet") + "')")[1]
        == ask(paths, "SELECT tokens FROM recipes")[1]
    )
    assert ask(paths, "SELECT max(abs(difference)) FROM conservation")[1] == [(0,)]
    assert ask(paths, "SELECT source, asked, held, missing FROM expected_shards ORDER BY source")[1] == [
        ("alpha", 4, 4, 0),
        ("beta", 2, 2, 0),
    ]


@pytest.mark.parametrize("query", QUERIES, ids=lambda file: file.stem)
def test_every_shipped_query_runs(paths: Paths, query: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(paths.root)
    header, _ = ask(paths, query.read_text())
    assert header
    assert query.read_text().startswith("-- ")


def test_every_column_is_explained_in_the_data_dictionary(paths: Paths) -> None:
    dictionary = (SHIPPED_MANIFESTS / "README.md").read_text()
    for table, column in ask(paths, "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal")[1]:
        line = next(line for line in dictionary.splitlines() if line.startswith(f"| `{table}` |"))
        assert f"`{column}`" in line, f"{table}.{column}"


def test_a_query_that_duckdb_refuses_is_a_usage_error(paths: Paths) -> None:
    with pytest.raises(UsageError, match="nothing_here"):
        ask(paths, "FROM nothing_here")


def test_the_duckdb_shell_people_have_opens_it(paths: Paths) -> None:
    shell = Path(sys.executable).with_name("duckdb")
    if not shell.exists():
        pytest.skip("duckdb-cli is not installed in this environment")
    question = ["-readonly", "-csv", str(paths.database), "SELECT sum(tokens) FROM shards"]
    answer = subprocess.run([shell, *question], capture_output=True, text=True, check=True).stdout
    assert int(answer.split()[-1]) == ask(paths, "SELECT sum(tokens)::BIGINT FROM shards")[1][0][0]


HOLD_OPEN = """
    import sys, duckdb
    connection = duckdb.connect(sys.argv[1])
    if sys.argv[2] == "writes":
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute("SET wal_autocheckpoint = '1GB'")
        connection.execute("CREATE TABLE mine AS SELECT 1 AS a")
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def stranger(paths: Paths, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds tokens.db open for writing, idle or with unsaved changes."""
    command = [sys.executable, "-c", textwrap.dedent(HOLD_OPEN), str(paths.database), request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


@pytest.mark.parametrize("stranger", ["idle"], indirect=True)
def test_an_idle_shell_blocks_nobody(paths: Paths, stranger: subprocess.Popen[str]) -> None:
    (paths.recipes / "mix.toml").touch()
    rebuilt = manifest.rebuild(paths)
    assert rebuilt.postponed is None
    assert stranger.poll() is None
    assert ask(paths, "SELECT count(*) FROM recipes")[1] == [(1,)]


@pytest.mark.parametrize("stranger", ["idle"], indirect=True)
def test_what_an_idle_shell_writes_after_a_rebuild_is_moved_aside_and_said(
    paths: Paths, stranger: subprocess.Popen[str]
) -> None:
    assert manifest.rebuild(paths).postponed is None
    assert stranger.poll() is None  # it still has the old file
    wal = paths.database.with_name("tokens.db.wal")
    wal.write_bytes(b"what the shell writes now, beside a file that is not its own")
    assert manifest.is_stale(paths)
    assert "tokens.db.wal.orphan-1" in " ".join(manifest.rebuild(paths).notes)
    assert not wal.exists()
    assert ask(paths, "SELECT count(*) FROM recipes")[1] == [(1,)]


def test_a_folder_that_was_removed_makes_the_database_stale(paths: Paths) -> None:
    manifest.rebuild(paths)
    assert not manifest.is_stale(paths)
    shutil.rmtree(paths.all_bins / "tiny-bpe" / "beta")
    assert manifest.is_stale(paths)
    manifest.rebuild(paths)
    assert ask(paths, "SELECT count(*) FROM shards WHERE source = 'beta'")[1] == [(0,)]
    assert ask(paths, "SELECT max(difference) <> 0 OR min(difference) <> 0 FROM conservation")[1] == [(True,)]


def test_a_record_written_after_the_clock_was_put_back_makes_the_database_stale(paths: Paths) -> None:
    journal = paths.journal("base")
    journal.parent.mkdir(parents=True)
    journal.write_text("")
    hour_ahead = time.time_ns() + 3600 * 10**9
    for item in (paths.runs, journal.parent, journal):
        os.utime(item, ns=(hour_ahead, hour_ahead))
    manifest.rebuild(paths)
    os.utime(paths.database, ns=(hour_ahead + 10**9,) * 2)  # as a clock that was an hour ahead made it
    assert not manifest.is_stale(paths), "a file of the future makes nobody build again and again"
    journal.write_text("{}\n")
    assert manifest.is_stale(paths)


@pytest.mark.parametrize("stranger", ["writes"], indirect=True)
def test_unsaved_changes_of_a_living_shell_are_not_overwritten(paths: Paths, stranger: subprocess.Popen[str]) -> None:
    before = paths.database.stat().st_ino
    rebuilt = manifest.rebuild(paths)
    assert "unsaved changes" in (rebuilt.postponed or "")
    assert paths.database.stat().st_ino == before
    stranger.kill()
    stranger.wait()
    # Its owner died: the changes are moved aside, not into our new file, and not deleted.
    assert manifest.rebuild(paths).postponed is None
    assert paths.database.stat().st_ino != before
    assert [file.name for file in paths.manifests.glob("*.orphan-*")] == ["tokens.db.wal.orphan-1"]
    with duckdb.connect(str(paths.database), read_only=True) as connection:
        tables = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'mine'").fetchone()
    assert tables == (0,)


def test_a_file_that_is_no_database_any_more_is_made_anew(paths: Paths) -> None:
    paths.database.write_bytes(b"junk")
    assert ask(paths, "SELECT count(*) FROM recipes")[1] == [(1,)]


def test_one_rotten_plan_or_journal_is_a_note_and_hides_nothing_else(paths: Paths) -> None:
    run = paths.runs / "odd"
    run.mkdir(parents=True)
    start = {"kind": "start", "attempt": 1, "time": "x", "stage": "pretrain", "recipe": "mix", "recipe_sha256": "0"}
    start |= dict.fromkeys(("parent_run", "parent_step"), None)
    start |= dict.fromkeys(("params", "world_size", "batch_rows", "micro_batch", "accumulation", "rows_done"), 1)
    (run / "journal.jsonl").write_text(json.dumps(start) + "\n")
    rebuilt = manifest.rebuild(paths)
    assert "says what cannot be" in " ".join(rebuilt.notes)
    assert rebuilt.lines_by_table["shards"] == 6
    start |= {"time": "2026-01-01T00:00:00+00:00", "params": 1 << 70}
    (run / "journal.jsonl").write_text(json.dumps(start) + "\n")
    assert "no column can hold" in " ".join(manifest.rebuild(paths).notes)
    assert ask(paths, "SELECT count(*) FROM shards")[1] == [(6,)]


def test_plans_are_read_below_the_root_wherever_one_stands(paths: Paths) -> None:
    query = "SELECT count(DISTINCT \"row\") FROM read_parquet('manifests/plans/mix.parquet')"
    assert ask(paths, query)[1] == ask(paths, "SELECT plan_rows FROM recipes")[1]


def test_an_empty_folder_has_no_answer(tmp_path: Path) -> None:
    for verb, arguments in ((sql.main, ["FROM supply"]), (verify.main, [])):
        with pytest.raises(DataError, match="neither data/ nor runs/"):
            run_in(tmp_path, verb, *arguments)
    assert list(tmp_path.iterdir()) == []
