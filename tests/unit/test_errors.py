"""Errors: three lines and an exit code for people's mistakes, a traceback only for ours."""

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from dataprep.errors import BudgetError, DataError, EnvironmentProblem, Parser, QuernError, UsageError, as_typed, run

VERB = """
import os, sys
from dataprep.errors import DataError, run
def main():
    sys.stdin.readline()
    {body}
run(main)
"""


def leave(main: Callable[[], int | None], capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str]:
    """The exit code and stderr of a verb."""
    with pytest.raises(SystemExit) as stopped:
        run(main)
    return stopped.value.code, capsys.readouterr().err


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def main() -> NoReturn:
        raise error

    return main


def run_verb(body: str, *, reader_leaves: bool = False, stdout: str | None = None) -> tuple[int, str]:
    """Run VERB in a process of its own: (exit code, stderr). The reader leaves before anything is printed."""
    with open(stdout or "/dev/null", "wb") as elsewhere:  # noqa: PTH123 -- a device, not a path of ours
        process = subprocess.Popen(
            [sys.executable, "-c", VERB.format(body=body)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if reader_leaves else elsewhere,
            stderr=subprocess.PIPE,
            env={"PYTHONPATH": ":".join(sys.path)},  # buffered, whatever this process is
        )
    if process.stdout:
        process.stdout.close()
    with process:
        _, stderr = process.communicate(b"\n") if not process.stdout else (None, finish(process))
    return process.returncode, stderr.decode()


def finish(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdin
    assert process.stderr
    process.stdin.write(b"\n")
    process.stdin.close()
    return process.stderr.read()


@pytest.mark.parametrize(("kind", "code"), [(UsageError, 2), (DataError, 3), (BudgetError, 4), (EnvironmentProblem, 5)])
def test_each_kind_of_error_is_three_lines_and_its_exit_code(
    kind: type[QuernError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = leave(raising(kind("it broke", seen=1, wanted=2, fix="mend it")), capsys)
    assert found == (code, "error: it broke\n  seen: 1, wanted: 2\n  fix:  mend it\n")


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_a_verb_leaves_with_what_its_main_returned(
    returned: int | None, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(lambda: returned, capsys) == (code, "")


def test_an_interrupted_verb_says_that_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    code, stderr = leave(raising(KeyboardInterrupt()), capsys)
    assert code == 130
    assert "the same command goes on from here" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO])
def test_a_problem_of_the_machine_is_exit_5_and_names_the_file(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    code, stderr = leave(raising(OSError(number, "said by the kernel", "data/x.bin")), capsys)
    assert code == 5
    full = number in {errno.ENOSPC, errno.EDQUOT}
    assert stderr.startswith("error: no space for data/x.bin\n" if full else "error: could not use data/x.bin\n")
    assert stderr.count("\n") == 3


def test_a_full_disk_asks_for_space(capsys: pytest.CaptureFixture[str]) -> None:
    _, stderr = leave(raising(OSError(errno.ENOSPC, "")), capsys)
    assert "wanted: free space" in stderr


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("y"), ConnectionResetError(errno.ECONNRESET, "z")])
def test_a_programmers_mistake_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        run(raising(error))


def test_the_command_line_is_refused_in_three_lines(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="python -m dataprep.x")
    parser.add_argument("--n", type=int, required=True)
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(["--n", "many"])
    stderr = capsys.readouterr().err
    assert stopped.value.code == 2
    assert stderr.count("\n") == 3
    assert stderr.endswith("fix:  python -m dataprep.x --help\n")


def test_an_argument_of_several_lines_still_makes_three() -> None:
    assert str(UsageError("what", seen="SELECT\n1", wanted="x", fix="y")).count("\n") == 2


def test_a_verb_whose_reader_leaves_before_it_is_done_ends_quietly_as_sigpipe_would() -> None:
    shell = (
        f"{sys.executable} -c 'from dataprep.errors import run; run(lambda: [print(i) for i in range(99999)] and 0)'"
    )
    script = f"set -o pipefail; {shell} | head -1"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/bin:/usr/bin"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (141, b"0\n", b"")


def test_a_failed_check_keeps_its_exit_code_when_its_reader_left() -> None:
    assert run_verb("print('FAIL'); return 3", reader_leaves=True) == (3, "")


def test_an_error_keeps_its_exit_code_when_its_reader_left() -> None:
    body = "print('x'); raise DataError('w', seen=1, wanted=2, fix='f')"
    code, stderr = run_verb(body, reader_leaves=True)
    assert (code, stderr.count("\n")) == (3, 3)


def test_a_full_disk_under_stdout_is_exit_5() -> None:
    code, stderr = run_verb("print('x')", stdout="/dev/full")
    assert (code, stderr.count("\n")) == (5, 3)


def test_an_error_keeps_its_exit_code_when_its_log_is_on_the_full_disk() -> None:
    verb = VERB.format(body="raise DataError('w', seen=1, wanted=2, fix='f')")
    with open("/dev/full", "wb") as full:  # noqa: PTH123 -- a device, not a path of ours
        done = subprocess.run([sys.executable, "-c", verb], stdin=subprocess.DEVNULL, stderr=full, check=False)
    assert done.returncode == 3


def test_a_root_that_is_a_file_is_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dataprep.index"],
        capture_output=True,
        check=False,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), "DATAPREP_ROOT": __file__},
    )
    assert done.returncode in (2, 5)
    assert "Traceback" not in done.stderr


def test_commands_are_printed_so_that_they_can_be_pasted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    command = "python -m dataprep.index; torchrun --standalone train/main.py, or python train/main.py; make shards"
    assert as_typed(command) == command  # activated
    monkeypatch.delenv("VIRTUAL_ENV")
    assert as_typed(command) == (
        ".venv/bin/python -m dataprep.index; .venv/bin/torchrun --standalone train/main.py, "
        "or .venv/bin/python train/main.py; make shards"
    )
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert as_typed(command) == command  # no virtual environment at all


def test_a_disk_without_room_for_a_temporary_file_is_told_in_three_lines(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    with pytest.raises(SystemExit) as left:
        run(main)
    assert left.value.code == 5
    assert "export TMPDIR=FOLDER" in capsys.readouterr().err
