"""Hostile names of sources, shards, recipes and runs: nothing is written outside the root, none is taken for SQL."""

import argparse
from pathlib import Path

import pytest
from conftest import write_parquet
from odd import mill

from dataprep import quantity
from dataprep.errors import DataError, UsageError
from dataprep.listing import list_source
from dataprep.paths import Paths
from dataprep.sealed import publish_json
from dataprep.sources import load_catalogue, why_no_shard
from dataprep.sql import ask

LONG = "a" * 300
NAMES = [
    "..",
    ".",
    "a/../b",
    "/etc/passwd",
    "-rf",
    "",
    LONG,
    "a\nb",
    "\x1b[31m",
    "\uff41",
    "a\u202eb",
    "a b\0",
    "~/x",
    "\\",
]
SQL = ["a'; DROP TABLE sources; --", 'a"b', "a' OR '1'='1"]


def toml(text: str) -> str:
    """A TOML string of any text."""
    return '"' + "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in text) + '"'


@pytest.mark.parametrize("name", [*NAMES, *SQL], ids=ascii)
def test_a_source_of_a_hostile_name_is_refused_by_file_and_line(tmp_path: Path, name: str) -> None:
    file = tmp_path / "my.toml"
    file.write_text(f'\n[{toml(name)}]\nkind = "local"\npath = "odd"\ntext = "text"\n')
    with pytest.raises(UsageError) as refused:
        load_catalogue(file)
    assert str(refused.value).count("\n") == 2
    assert str(file) in refused.value.fix
    assert str(refused.value).replace("\n", "").isprintable()


@pytest.mark.parametrize("name", [*NAMES, *SQL], ids=ascii)
def test_a_recipe_run_or_tokenizer_of_a_hostile_name_is_refused(name: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        quantity.name(name)
    with pytest.raises(argparse.ArgumentTypeError):
        quantity.run_at_step(name)


@pytest.mark.parametrize("path", ["..", "../x", "/etc", "a/../../b", "", LONG, "a\nb", "a\0b"], ids=ascii)
def test_a_folder_outside_the_catalogues_own_is_refused(tmp_path: Path, path: str) -> None:
    file = tmp_path / "my.toml"
    file.write_text(f'[odd]\nkind = "local"\npath = {toml(path)}\ntext = "text"\n')
    with pytest.raises(UsageError, match="line 3"):
        load_catalogue(file)


FILES = [
    "a\nb",
    "-rf",
    "\x1b[2J",
    "x" * 240,
    "a\u202eb",
    " ",
    "*",
    "a[0]",
    "a\\b",
    b"a\xff".decode(errors="surrogateescape"),
]


@pytest.mark.parametrize("name", FILES, ids=ascii)
def test_a_file_that_cannot_be_a_shard_is_named_before_anything_is_made(tmp_path: Path, name: str) -> None:
    content = write_parquet(tmp_path / "odd/shard_0.parquet", ["the mill"]).read_bytes()
    (tmp_path / f"odd/{name}.parquet").write_bytes(content)
    with pytest.raises(DataError, match="cannot become a shard") as refused:
        mill(tmp_path)
    assert str(refused.value).count("\n") == 2
    assert str(refused.value).replace("\n", "").isprintable()
    assert not (tmp_path / "data/bins").exists()


def test_two_files_whose_names_look_alike_are_not_two_shards(tmp_path: Path) -> None:
    for name in ("e\u0301", "\u00e9"):
        write_parquet(tmp_path / f"odd/{name}.parquet", ["the mill"])
    with pytest.raises(DataError, match="2 files would make one shard"):
        mill(tmp_path)


@pytest.mark.parametrize("name", ["it's", 'a"b', "a'; DROP TABLE shards; --", "a$1 %s {x}", "\u00e9t\u00e9"], ids=ascii)
def test_a_name_with_quotes_reaches_the_tables_as_it_is(tmp_path: Path, name: str) -> None:
    write_parquet(tmp_path / f"odd/{name}.parquet", ["the mill"])
    assert mill(tmp_path) == 0
    assert ask(Paths(root=tmp_path), "SELECT shard, tokens FROM shards")[1] == [(name, 9)]
    assert ask(Paths(root=tmp_path), "SELECT held FROM expected_shards")[1] == [(1,)]


HUB_PATHS = [
    "../../escaped.parquet",
    "/escaped.parquet",
    "a/../../../escaped.parquet",
    "a/b\n.parquet",
    f"{LONG}.parquet",
]


@pytest.mark.parametrize("path", HUB_PATHS, ids=lambda path: ascii(path[:30]))
def test_a_listing_of_the_hub_with_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "my.toml").write_text('[far]\nkind = "hub"\nrepo = "a/b"\nfiles = "*"\ntext = "text"\n')
    known = {"source": "far", "repo": "a/b", "asked": "main", "patterns": ["*"], "commit": "0" * 40}
    files = [{"name": path, "bytes": 1, "sha256": None}]
    publish_json(Paths(root=tmp_path).raw("far") / "listing.json", known | {"files": files})
    with pytest.raises(DataError, match="cannot become a shard"):
        list_source(load_catalogue(tmp_path / "my.toml")["far"], Paths(root=tmp_path), offline=True)


CATALOGUES = {
    "an unknown key": '[odd]\nkind = "local"\npath = "odd"\ntext = "text"\nunknown = 1\n',
    "a number for a path": '[odd]\nkind = "local"\npath = 3\ntext = "text"\n',
    "a list for a kind": "[odd]\nkind = [1]\n",
    "a number for a source": "odd = 3\n",
    "a list of tables": '[[odd]]\nkind = "local"\n',
    "a table in a source": '[odd]\nkind = "local"\npath = "odd"\ntext = "text"\n[odd.sub]\nx = 1\n',
    "a key twice": "a = 1\na = 2\n",
    "lists 5,000 deep": "a = " + "[" * 5_000 + "]" * 5_000,
    "tables 2,000 deep": "a = " + "{a = " * 2_000 + "1" + "}" * 2_000,
    "a NUL": "\0",
    "a date": "[odd]\nkind = 2020-01-01\n",
    "an escape code": '["\\u001b[31m"]\nkind = "local"\n',
}


@pytest.mark.parametrize("case", CATALOGUES)
def test_a_catalogue_of_unknown_keys_or_wrong_types_is_refused_in_three_lines(tmp_path: Path, case: str) -> None:
    file = tmp_path / "my.toml"
    file.write_text(CATALOGUES[case])
    with pytest.raises(UsageError) as refused:
        load_catalogue(file)
    assert str(refused.value).count("\n") == 2
    assert str(refused.value).replace("\n", "").isprintable()


def test_what_may_be_the_name_of_a_shard_is_said_for_each() -> None:
    assert [name for name in ("shard_00000", "a b", "it's", "\u00e9", "data.v1") if why_no_shard(name)] == []
    assert [name for name in ("", ".", "..", "-", "a/b", "a\tb", LONG) if not why_no_shard(name)] == []
