"""The catalogue: every entry that cannot be used is refused with the line to edit."""

from pathlib import Path

import pytest

from dataprep.errors import UsageError
from dataprep.sources import Source, find_source, load_catalogue, shard_name

GOOD = '# my sources\n\n[good]\nkind = "local"\npath = "docs"\ntext = "body"\n\n'


def write(folder: Path, text: str) -> Path:
    file = folder / "my.toml"
    file.write_text(text, encoding="utf-8")
    return file


def refusal(folder: Path, text: str) -> UsageError:
    with pytest.raises(UsageError) as refused:
        load_catalogue(write(folder, text))
    assert str(refused.value).count("\n") == 2
    return refused.value


def test_the_built_in_catalogue_loads_and_pins_its_held_out_shards() -> None:
    sources = load_catalogue()
    assert next(iter(sources)) == "fineweb-edu"
    assert {"climbmix", "smoltalk", "smol-smoltalk", "ultrachat-gen", "ultrachat-sft", "lima"} < set(sources)
    assert sources["fineweb-edu"].split_of("shard_01822") == "holdout"
    assert sources["fineweb-edu"].split_of("shard_01821") == "train"
    assert sources["lima"].layout == "conversations"
    assert (sources["gsm8k"].layout, sources["gsm8k"].columns) == ("question", ("question", "answer"))
    assert (sources["mmlu"].layout, sources["mmlu"].columns) == ("choices", ("question", "choices", "answer"))
    assert sources["mmlu"].split_of("auxiliary_train-00000-of-00001") == "train"
    assert sources["mmlu"].split_of("test-00000-of-00001") == "holdout"
    assert sources["python-docs"].kind == "python"


def test_entries_of_all_three_kinds_are_added_behind_the_built_in_ones(tmp_path: Path) -> None:
    text = GOOD + (
        '[hubbed]\nkind = "hub"\nrepo = "own-er/na.me"\nrevision = "abc"\nfiles = ["a-*", "b-*"]\nmessages = "m"\n'
        '[addressed]\nkind = "url"\nurls = "https://example.org/shard_00000.parquet"\ntext = "t"\n'
        f'sha256 = {{ shard_00000 = "{"0" * 64}" }}\n'
    )
    sources = load_catalogue(write(tmp_path, text))
    assert list(sources)[-3:] == ["good", "hubbed", "addressed"]
    good = Source(name="good", kind="local", layout="text", columns=("body",), path=tmp_path.resolve() / "docs")
    assert sources["good"] == good
    assert (sources["hubbed"].repo, sources["hubbed"].revision) == ("own-er/na.me", "abc")
    assert sources["hubbed"].files == ("a-*", "b-*")
    assert sources["addressed"].urls == ("https://example.org/shard_00000.parquet",)


@pytest.mark.parametrize(
    ("entry", "line", "seen"),
    [
        ('[bad]\npath = "docs"\ntext = "t"\n', 8, "kind = None"),
        ('[bad]\ntext = "t"\nkind = "ftp"\n', 10, "kind = 'ftp'"),
        ("[bad]\nkind = 5\n", 9, "kind = 5"),
        ('[bad]\nkind = "python"\ntext = "t"\n', 9, "kind = 'python'"),
        ('[bad]\nkind = "local"\ntext = "t"\n', 8, "no path"),
        ('[bad]\nkind = "hub"\nrepo = "a/b"\ntext = "t"\n', 8, "no files"),
        ('[bad]\nkind = "url"\ntext = "t"\n', 8, "no urls"),
        ('[bad]\nkind = "local"\npath = "docs"\ntext = "t"\ncolour = "red"\n', 12, "unknown key 'colour'"),
        ('[bad]\nkind = "local"\npath = "docs"\ntext = "t"\nrevision = "main"\n', 12, "unknown key 'revision'"),
        ('[bad]\nkind = "local"\npath = "docs"\n', 8, "columns for nothing"),
        ('[bad]\nkind = "local"\npath = "docs"\ntext = "t"\nmessages = "m"\n', 8, "columns for messages + text"),
        ('[bad]\nkind = "local"\npath = "docs"\nquestion = "q"\n', 8, "columns for question"),
        ('[bad]\nkind = "local"\npath = "docs"\nquestion = "q"\nchoices = "c"\n', 8, "columns for choices + question"),
        ('[bad]\nkind = "local"\npath = "docs"\nquestion = "q"\nanswer = 3\n', 12, "answer = 3"),
        ('[bad]\nkind = "local"\npath = "docs"\ntext = ""\n', 11, "text = ''"),
        ('[bad]\nkind = "local"\npath = "docs"\ntext = 3\n', 11, "text = 3"),
        ('[bad]\nkind = "local"\npath = "../docs"\ntext = "t"\n', 10, "path = '../docs'"),
        ('[bad]\nkind = "local"\npath = "a/../../b"\ntext = "t"\n', 10, "path = 'a/../../b'"),
        ('[bad]\nkind = "local"\npath = "/docs"\ntext = "t"\n', 10, "path = '/docs'"),
        ('[bad]\nkind = "local"\npath = ["docs"]\ntext = "t"\n', 10, "path = ['docs']"),
        ('[bad]\nkind = "local"\npath = "docs"\nholdout = 2\ntext = "t"\n', 11, "holdout = 2"),
        ('[bad]\nkind = "local"\npath = "docs"\nholdout = [2]\ntext = "t"\n', 11, "holdout = [2]"),
        ('[bad]\nkind = "local"\npath = "docs"\nlicence = 0\ntext = "t"\n', 11, "licence = 0"),
        ('[bad]\nkind = "hub"\nrepo = "no-owner"\nfiles = "*"\ntext = "t"\n', 10, "repo = 'no-owner'"),
        ('[bad]\nkind = "hub"\nrepo = "a/b/c"\nfiles = "*"\ntext = "t"\n', 10, "repo = 'a/b/c'"),
        ('[bad]\nkind = "url"\nurls = ["ftp://x/a.parquet"]\ntext = "t"\n', 10, "ftp://x/a.parquet"),
        ('[bad]\nkind = "url"\nurls = ["https://x/a.csv"]\ntext = "t"\n', 10, "https://x/a.csv"),
        ('[bad]\nkind = "url"\nurls = []\ntext = "t"\n', 10, "urls = none"),
        ('[bad]\nkind = "url"\nurls = "https://x/a.parquet"\ntext = "t"\nsha256 = "00"\n', 12, "sha256 = '00'"),
        (
            '[bad]\nkind = "url"\nurls = "https://x/a.parquet"\ntext = "t"\nsha256 = { a = "XY" }\n',
            12,
            "sha256 = {'a': 'XY'}",
        ),
        ('[Bad]\nkind = "local"\npath = "docs"\ntext = "t"\n', 8, "'Bad' is not a source"),
        ('["../bad"]\nkind = "local"\npath = "docs"\ntext = "t"\n', 8, "'../bad' is not a source"),
        ('[lima]\nkind = "local"\npath = "docs"\ntext = "t"\n', 8, "'lima' is taken by the built-in catalogue"),
    ],
)
def test_a_bad_entry_is_refused_with_its_line(tmp_path: Path, entry: str, line: int, seen: str) -> None:
    refused = refusal(tmp_path, GOOD + entry + '\n[next]\nkind = "local"\npath = "docs"\ntext = "t"\n')
    assert refused.fix == f"edit {tmp_path / 'my.toml'}, line {line}"
    assert seen in str(refused.seen)


def test_a_value_outside_a_table_is_no_source(tmp_path: Path) -> None:
    assert "'version' is not a source" in str(refusal(tmp_path, "version = 3\n" + GOOD).seen)


def test_two_tables_of_one_name_are_refused_where_the_second_is(tmp_path: Path) -> None:
    assert "line 8" in str(refusal(tmp_path, GOOD + '[good]\nkind = "local"\n').seen)


@pytest.mark.parametrize("content", [b"[good\n", b"\xff\xfe", b"kind = local\n"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "my.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"my\.toml is not valid TOML"):
        load_catalogue(file)


@pytest.mark.parametrize("name", ["none.toml", "."])
def test_a_catalogue_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="there is no catalogue at"):
        load_catalogue(tmp_path / name)


def test_a_catalogue_below_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        load_catalogue(write(tmp_path, GOOD) / "more.toml")


def test_a_kind_that_is_a_list_is_refused(tmp_path: Path) -> None:
    refusal(tmp_path, '[bad]\nkind = ["local"]\npath = "docs"\ntext = "t"\n')


@pytest.mark.parametrize("entry", ["['b.d']\nkind = 'ftp'\n", "bad = { kind = 'ftp' }\n"])
def test_the_line_is_right_however_the_table_is_spelled(tmp_path: Path, entry: str) -> None:
    assert "line 1" not in refusal(tmp_path, "\n\n" + entry).fix


def test_holdout_is_a_name_or_a_pattern_and_nothing_else() -> None:
    source = Source(name="s", kind="local", layout="text", columns=("t",), holdout=("shard_00002", "test-*"))
    shards = ["shard_00002", "test-00000-of-00001", "shard_000021", "Shard_00002", "my-test-1", "shard_00001"]
    assert [source.split_of(shard) for shard in shards] == ["holdout", "holdout", "train", "train", "train", "train"]


def test_an_unknown_source_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="fineweb-edu, climbmix"):
        find_source(load_catalogue(), "fineweb")


@pytest.mark.parametrize(
    ("file", "shard"), [("data/train-0.parquet", "train-0"), ("a.b.jsonl", "a.b"), ("https://x/y/s_1.parquet", "s_1")]
)
def test_a_shard_is_called_as_its_file_without_the_suffix(file: str, shard: str) -> None:
    assert shard_name(file) == shard
