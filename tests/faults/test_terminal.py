"""Escape codes in text never reach the terminal: whatever prints what somebody else wrote spells them out."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import run_in, write_parquet
from odd import mill, write_lines

from dataprep import show, sql
from dataprep.console import Progress, print_next, table
from dataprep.errors import DataError, Parser
from train.ending import sample_lines
from train.ranks import Ranks
from train.terminal import safe

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\x08\x7f\u202etxt\r"
RAW = set(EVIL) - set("]0;owned[2J31mtxt")
FRIENDLY = {"\n"}


def check_spelled_out(said: str) -> None:
    assert not RAW & set(said)
    assert all(c.isprintable() or c in FRIENDLY for c in said)
    assert "\\x1b[2J" in said


def test_show_spells_out_what_a_document_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_parquet(tmp_path / "odd/shard_0.parquet", [EVIL])
    assert mill(tmp_path) == 0
    capsys.readouterr()
    assert run_in(tmp_path, show.main, "odd") == 0
    check_spelled_out(capsys.readouterr().out)


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["table", "json"])
def test_sql_spells_out_what_a_table_holds(tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    query = f"SELECT '{EVIL}' AS \"a{EVIL}\", 'two\nlines' AS b"
    assert run_in(tmp_path, sql.main, query, *more) == 0
    said = capsys.readouterr().out
    assert not (RAW - {"\x7f"}) & set(said)  # JSON may say delete as it is: a terminal ignores it
    if not more:
        check_spelled_out(said)
        assert len([line for line in said.splitlines() if "lines" in line]) == 1


def test_a_refused_query_is_quoted_without_its_codes(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(Exception, match="cannot be answered") as refused:
        run_in(tmp_path, sql.main, f'SELECT "{EVIL}"')
    check_spelled_out(str(refused.value))


def test_an_error_that_quotes_a_line_of_a_file_spells_it_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(tmp_path, ['{"text": "good"}', f'{{"text": "{EVIL}'])
    assert mill(tmp_path) == 3
    check_spelled_out(capsys.readouterr().err)


def _sample(text: str) -> str:
    return sample_lines({"prompt": text, "completion": text}, chat=True)


SAYERS: dict[str, Callable[[str], object]] = {
    "error": lambda text: print(DataError(text, seen=text, wanted=text, fix=text)),
    "table": lambda text: print(table([text], [[text]])),
    "progress": lambda text: Progress("odd", 0).say(text),
    "trainer": lambda text: Ranks(rank=0, world_size=1, device=torch.device("cpu")).say(_sample(text)),
    "chat": lambda text: print(safe(text)),
    "next": print_next,
}


@pytest.mark.parametrize("who", SAYERS)
def test_whoever_says_it_spells_it_out(who: str, capsys: pytest.CaptureFixture[str]) -> None:
    SAYERS[who](EVIL)
    check_spelled_out(capsys.readouterr().out)


def test_what_an_argument_parser_complains_of_is_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="odd")
    parser.add_argument("--n", type=int)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--n", EVIL])
    check_spelled_out(capsys.readouterr().err)
