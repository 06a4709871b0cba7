"""Locks and people: shells on tokens.db, the same command twice, folders elsewhere: nobody blocks, no row is lost."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from readers import QUESTION
from training import FLAGS, REPOSITORY, here, journal_of, losses, main

from dataprep import index, manifest, pack, shards, sql, verify
from dataprep.errors import EnvironmentProblem
from dataprep.flocks import locked
from dataprep.paths import Paths
from dataprep.sql import ask
from train.runs import __main__ as runs

SHELL = Path(sys.executable).with_name("duckdb")
TINY = ("--tokenizer", "tiny-bpe")
ANOTHER = ("--mix", "1", "--sources", "alpha", *TINY, "--seq-len", "64", "--name", "another")
TRAIN = ("--checkpoint-every", "4", "--tokens", "16384")


class Shell:
    """A duckdb shell that holds tokens.db open for writing, as people leave it in another window."""

    def __init__(self, database: Path) -> None:
        self._process = subprocess.Popen(
            [SHELL, "-batch", database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.say("PRAGMA disable_checkpoint_on_shutdown; SET wal_autocheckpoint = '1GB'")

    def say(self, sql: str) -> str:
        """Type something; the shell's answer."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{sql};\n.print done\n")
        self._process.stdin.flush()
        lines = []
        while (line := self._process.stdout.readline()) not in {"done\n", ""}:
            lines.append(line)
        return "".join(lines)

    def leave(self) -> None:
        """Close the window."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def shell(root: Path) -> Iterator[Shell]:
    """A shell on the root's database."""
    if not SHELL.exists():
        pytest.skip("duckdb-cli is not installed in this environment")
    opened = Shell(root / "manifests" / "tokens.db")
    yield opened
    opened.leave()


def catalogue(root: Path, source: str, n: str) -> list[str]:
    return ["--source", source, "--n", n, "--catalogue", str(root / "my.toml"), *TINY]


def count(table: str, capsys: pytest.CaptureFixture[str]) -> int:
    """What `dataprep.sql` answers, by the real verb."""
    capsys.readouterr()
    assert sql.main([f"SELECT count(*) AS n FROM {table}"]) == 0
    return int(capsys.readouterr().out.split()[-1])


def work(root: Path) -> None:
    """Encode a shard again, pack another recipe, train it: every command comes through."""
    (root / "data" / "bins" / "tiny-bpe" / "alpha" / "shard_00000.json").unlink()
    assert shards.main(catalogue(root, "alpha", "3")) == 0
    assert pack.main(list(ANOTHER)) == 0
    here("--recipe", "another", "--run-name", "b", "--tokens", "1024")
    assert index.main([]) == 0


def test_a_shell_left_open_on_tokens_db_blocks_nothing_and_hides_nothing(
    root: Path, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    work(root)
    assert [count(table, capsys) for table in ("shards", "recipes", "runs")] == [6, 2, 1]
    assert "6" in shell.say("SELECT count(*) FROM shards")  # it still reads the file it opened


def test_a_shell_that_writes_into_tokens_db_blocks_nothing_and_hides_nothing(
    root: Path, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.say("CREATE TABLE mine AS SELECT 1 AS a")
    work(root)
    # The published file is still the shell's; the answers are current all the same.
    assert [count(table, capsys) for table in ("shards", "recipes", "runs")] == [6, 2, 1]
    shell.say("INSERT INTO mine VALUES (2)")
    assert "2" in shell.say("SELECT count(*) FROM mine")
    shell.leave()
    assert index.main([]) == 0
    assert ask(Paths(root=root), "SELECT count(*) FROM recipes")[1] == [(2,)]
    assert list((root / "manifests").glob("tokens.db.wal.orphan-*"))  # what it wrote is kept


def test_the_same_and_other_shards_made_by_three_commands_at_once_are_those_of_one(root: Path) -> None:
    paths = Paths(root=root)
    before = {file.relative_to(root): file.read_bytes() for file in paths.all_bins.rglob("*.*")}
    shutil.rmtree(paths.all_bins)
    asked = [catalogue(root, "alpha", "3"), catalogue(root, "alpha", "3"), catalogue(root, "beta", "1")]
    command = [sys.executable, "-m", "dataprep.shards"]
    at_once = [subprocess.Popen([*command, *one], stdout=subprocess.DEVNULL, cwd=root) for one in asked]
    assert [process.wait(60) for process in at_once] == [0, 0, 0]
    assert {file.relative_to(root): file.read_bytes() for file in paths.all_bins.rglob("*.*")} == before
    assert ask(paths, "SELECT count(*) FROM shards")[1] == [(6,)]
    assert ask(paths, "SELECT sum(missing)::BIGINT FROM expected_shards")[1] == [(0,)]


def test_whatever_is_done_beside_a_trainer_its_run_is_the_same(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The trainer is stopped at a step, so that all of it happens while it runs."""
    paths = Paths(root=root)
    here("--run-name", "undisturbed", *TRAIN)
    with subprocess.Popen(
        [sys.executable, REPOSITORY / "train" / "main.py", *FLAGS, *TRAIN, "--run-name", "a"], stdout=subprocess.DEVNULL
    ) as trainer:
        journal = paths.journal("a")
        while not (journal.exists() and '"step"' in journal.read_text()) and trainer.poll() is None:
            time.sleep(0.005)
        trainer.send_signal(signal.SIGSTOP)
        n_steps = len(journal_of(root, "a").of_kind("step"))
        try:
            _do_everything_beside(paths, capsys)
            assert ask(paths, "SELECT count(*) FROM steps WHERE run = 'a'")[1] == [(n_steps,)]
        finally:
            trainer.send_signal(signal.SIGCONT)
        while trainer.poll() is None:
            assert manifest.rebuild(paths).postponed is None
        assert trainer.returncode == 0
    assert n_steps < len(losses(root, "a"))  # it was under way
    assert losses(root, "a") == losses(root, "undisturbed")


def _do_everything_beside(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert index.main([]) == 0
    second = main(*TRAIN, "--run-name", "a")
    assert (second.returncode, "is being trained by another process" in second.stderr) == (2, True)
    with pytest.raises(Exception, match="is being trained now"):
        runs.main(["trash", "a"])
    packed = ["--sources", "alpha,beta", "--name", "mix", "--seq-len", "64", "--seed", "1", *TINY]
    with pytest.raises(Exception, match="is taken by another recipe"):
        pack.main(["--mix", "50:50", *packed])
    plan = paths.plans / "mix.parquet"
    before = plan.read_bytes()
    plan.unlink()
    assert pack.main(["--mix", "70:30", *packed]) == 0  # the plan it reads is replaced, by the same
    assert plan.read_bytes() == before
    capsys.readouterr()


def test_fifty_readers_of_tokens_db_see_whole_answers_while_it_is_rebuilt(paths: Paths) -> None:
    manifest.rebuild(paths)
    [wanted] = ask(paths, QUESTION)[1]
    readers = REPOSITORY / "tests" / "readers.py"
    command = [sys.executable, readers, paths.database, "1.5", "50", str(wanted)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        n_rebuilds = 0
        while process.poll() is None:
            assert manifest.rebuild(paths).postponed is None
            n_rebuilds += 1
        assert process.returncode == 0
        assert process.stdout
        assert int(process.stdout.read().split()[1]) >= 50
    assert n_rebuilds >= 2


ASK_AND_COUNT = """
from dataprep import manifest, sql
fill = manifest._fill
manifest._fill = lambda *about: (print("rebuilt"), fill(*about))
sql.main(["SELECT count(*) FROM recipes"])
"""


def test_questions_that_come_at_once_rebuild_once(paths: Paths) -> None:
    (paths.recipes / "mix.toml").touch()
    asking, env = [sys.executable, "-c", ASK_AND_COUNT], os.environ | {"DATAPREP_ROOT": str(paths.root)}
    with locked(paths.manifests / manifest._LOCK):
        at_once = [subprocess.Popen(asking, stdout=subprocess.PIPE, env=env, text=True) for _ in range(4)]
        time.sleep(2)  # for all of them to find it stale; with fewer that do, less is asked of the code
    answers = [process.communicate(timeout=60)[0] for process in at_once]
    assert [process.returncode for process in at_once] == [0] * 4
    assert sum(answer.count("rebuilt") for answer in answers) == 1


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "none", place], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_folders_on_another_file_system_than_the_temporary_one_are_as_any(
    root: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By links, as people do who have a large disk beside a small one."""
    assert elsewhere.stat().st_dev != root.stat().st_dev
    (root / "runs").mkdir()
    for name in ("data", "manifests", "runs"):
        shutil.move(root / name, elsewhere / name)
        (root / name).symlink_to(elsewhere / name)
    work(root)
    assert count("recipes", capsys) == 2
    assert runs.main(["trash", "b"]) == 0
    assert runs.main(["restore", "b"]) == 0
    assert verify.main(["--full"]) == 0


def test_a_manifests_folder_that_is_read_only_stops_a_long_job_at_once_and_no_question(
    root: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(root / "manifests", elsewhere / "manifests")
    (root / "manifests").symlink_to(elsewhere / "manifests")
    here("--run-name", "b", "--tokens", "1024")  # so that the database is stale
    subprocess.run(["mount", "-o", "remount,ro", elsewhere], check=True)
    for verb, flags in ((index, []), (pack, list(ANOTHER))):
        asked = [sys.executable, "-m", verb.__name__, *flags]
        done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=root)
        assert (done.returncode, len(done.stderr.splitlines())) == (5, 3), done.stderr
    shutil.rmtree(root / "data" / "bins")
    with pytest.raises(EnvironmentProblem, match="manifests cannot be written"):
        shards.main(catalogue(root, "alpha", "3"))
    assert not (root / "data" / "bins").exists()  # found before the work, not after it
    assert count("runs", capsys) == 1


def test_a_manifests_folder_of_another_person_answers_questions(packed_root: Path) -> None:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become another person here, by setpriv")
    somebody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable]
    if subprocess.run(
        [*somebody, "-c", "import dataprep"], capture_output=True, check=False, cwd=REPOSITORY
    ).returncode:
        pytest.skip("another person cannot run this Python")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are for its owner's eyes only
        Path(folder).chmod(0o755)
        root = Path(folder) / "root"
        shutil.copytree(packed_root, root)
        root.chmod(0o755)
        (root / "manifests" / "recipes" / "mix.toml").touch()
        asking = [*somebody, "-m", "dataprep.sql", "SELECT count(*) FROM recipes"]
        env = os.environ | {"DATAPREP_ROOT": str(root), "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(asking, capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["1"]), done.stderr
    assert "cannot be written" in done.stderr


def test_a_command_that_waits_for_one_that_stands_still_says_so(paths: Paths) -> None:
    """As when somebody pressed Ctrl-Z while tokens.db was rebuilt."""
    lock = paths.manifests / ".tokens.lock"
    env = os.environ | {"DATAPREP_ROOT": str(paths.root)}
    asked = [sys.executable, "-m", "dataprep.index"]
    with contextlib.ExitStack() as held:
        held.enter_context(locked(lock))
        index = subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
        with index:
            assert index.stderr
            assert index.stderr.readline() == f"waiting: another command holds {lock} (which one: fuser -v {lock})\n"
            held.close()
    assert index.returncode == 0


def test_a_file_system_without_locks_is_named_with_what_helps(paths: Paths) -> None:
    """As NFS answers an exclusive lock on a folder; by strace, which fails the call itself."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    asked = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=flock", "-e", "inject=flock:error=EBADF"]
    env = os.environ | {"DATAPREP_ROOT": str(paths.root)}
    done = subprocess.run(
        [*asked, sys.executable, "-m", "dataprep.index"], capture_output=True, text=True, check=False, env=env
    )
    if "ptrace" in done.stderr:
        pytest.skip(f"strace cannot trace here: {done.stderr.splitlines()[0]}")
    assert (done.returncode, len(done.stderr.splitlines())) == (5, 3), done.stderr
    assert "local_lock=flock" in done.stderr
