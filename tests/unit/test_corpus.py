import hashlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dataprep import corpus
from dataprep.documents import count_bytes, read_texts
from dataprep.errors import EnvironmentProblem
from dataprep.python_docs import Document, read_modules, read_topics
from dataprep.python_qa import converse
from dataprep.sources import load_catalogue, shard_name

SOURCES = ("python-docs", "python-qa")
BUILD_BOTH = """
import sys
from pathlib import Path
from dataprep import corpus
for source in ("python-docs", "python-qa"):
    corpus.build(source, Path(sys.argv[1], source))
assert not {"antigravity", "this", "idlelib", "turtledemo"} & sys.modules.keys(), "a module was imported"
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    for source in SOURCES:
        corpus.build(source, root / source)
    return root


def hashes(root: Path) -> dict[str, str]:
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(root.glob("*/*"))}


def text_bytes(root: Path, source: str) -> list[int]:
    entry = load_catalogue()[source]
    files = [root / source / name for name in corpus.list_shards(source)]
    return [sum(count_bytes(texts) for texts in read_texts(f, entry.columns, entry.layout)) for f in files]


def documents_of(code_by_path: dict[str, str | bytes], folder: Path, patch: pytest.MonkeyPatch) -> dict[str, str]:
    for path, code in code_by_path.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(code if isinstance(code, bytes) else code.encode())
    patch.setattr(sysconfig, "get_path", lambda _: str(folder))
    return {module.name: module.text for module in read_modules()}


def test_another_process_builds_the_same_bytes_and_imports_no_module(built: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", BUILD_BOTH, tmp_path], env=environment, check=True)
    assert hashes(tmp_path) == hashes(built)
    assert len(hashes(built)) == 6


def test_shards_that_are_there_are_kept_and_the_missing_one_is_as_before(built: Path, tmp_path: Path) -> None:
    (tmp_path / "shard_00001.parquet").write_bytes(b"kept")
    corpus.build("python-docs", tmp_path)
    assert (tmp_path / "shard_00001.parquet").read_bytes() == b"kept"
    wanted = (built / "python-docs" / "shard_00000.parquet").read_bytes()
    assert (tmp_path / "shard_00000.parquet").read_bytes() == wanted
    assert sorted(f.name for f in tmp_path.iterdir()) == corpus.list_shards("python-docs")


def test_a_complete_folder_reads_no_module(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "read_modules", lambda: pytest.fail("modules were read again"))
    corpus.build("python-docs", built / "python-docs")


def test_shards_look_like_those_of_the_real_data_sets(built: Path) -> None:
    docs = pq.ParquetFile(built / "python-docs" / "shard_00000.parquet")
    qa = pq.ParquetFile(built / "python-qa" / "shard_00000.parquet")
    assert docs.schema_arrow.names == ["text"]
    assert str(qa.schema_arrow.field("messages").type) == "list<element: struct<content: string, role: string>>"
    assert qa.schema_arrow.names == ["messages", "source"]
    assert qa.metadata.row_group(0).num_rows == 1024
    assert {f.metadata.row_group(0).column(0).compression for f in (docs, qa)} == {"ZSTD"}


def test_the_catalogue_holds_out_the_last_shard() -> None:
    for source in SOURCES:
        assert load_catalogue()[source].holdout == (shard_name(corpus.list_shards(source)[-1]),)


def test_docs_shards_are_about_equal_and_the_questions_held_out_about_a_tenth(built: Path) -> None:
    docs, (qa_train, qa_held_out) = text_bytes(built, "python-docs"), text_bytes(built, "python-qa")
    assert sum(docs) > 4_000_000
    assert min(docs) > 0.6 * max(docs)
    assert qa_train > 1_000_000
    assert 0.04 < qa_held_out / (qa_train + qa_held_out) < 0.2


def test_what_questions_hold_out_is_held_out_of_the_docs_too(built: Path) -> None:
    modules, topics = read_modules(), read_topics()
    name_by_text = {document.text: document.name for document in (*modules, *topics)}
    origin_by_turns = {conversation.turns: conversation.origin for conversation in converse(modules, topics)}
    trained = [pq.read_table(built / "python-docs" / name)["text"] for name in corpus.list_shards("python-docs")[:-1]]
    held_out = pq.read_table(built / "python-qa" / "shard_00001.parquet")["messages"].to_pylist()
    trained_names = {name_by_text[text] for column in trained for text in column.to_pylist()}
    held_out_origins = {origin_by_turns[tuple(turn["content"] for turn in row)] for row in held_out}
    assert len(held_out_origins) > 10
    assert not trained_names & held_out_origins


def test_every_module_and_topic_is_in_exactly_one_shard(built: Path) -> None:
    columns = [pq.read_table(built / "python-docs" / name)["text"] for name in corpus.list_shards("python-docs")]
    found = sorted(text for column in columns for text in column.to_pylist())
    assert found == sorted(document.text for document in (*read_modules(), *read_topics()))


def test_conversations_alternate_and_no_answer_comes_twice(built: Path) -> None:
    columns = [pq.read_table(built / "python-qa" / name)["messages"] for name in corpus.list_shards("python-qa")]
    rows = [row for column in columns for row in column.to_pylist()]
    assert {tuple(turn["role"] for turn in row) for row in rows} == {("user", "assistant"), ("user", "assistant") * 2}
    assert all(turn["content"].strip() for row in rows for turn in row)
    answers = [row[1]["content"] for row in rows]
    assert len(answers) == len(set(answers))


def test_tests_strangers_and_files_that_are_no_text_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = documents_of(
        {
            "one.py": "x = 1\n",
            "package/__init__.py": "y = 2\n",
            "package/inner.py": "# -*- coding: latin-1 -*-\nname = 'é'\n".encode("latin-1"),
            "empty.py": "\n",
            "test/test_one.py": "x\n",
            "package/tests/test_inner.py": "x\n",
            "site-packages/stranger.py": "x\n",
            "dist-packages/stranger.py": "x\n",
            "config-3.11-here/built.py": "x\n",
            "_sysconfigdata_here.py": "x\n",
            "pydoc_data/topics.py": "topics = {}\n",
            "broken.py": b"name = '\xff'\n",
            "unknown.py": "# -*- coding: no-such-encoding -*-\n",
            "lib-dynload/binary.so": b"\x7fELF",
        },
        tmp_path,
        monkeypatch,
    )
    assert found.keys() == {"one", "package", "package.inner"}
    assert "é" in found["package.inner"]


def test_a_link_without_a_target_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").symlink_to(tmp_path / "gone.py")
    assert documents_of({"one.py": "x = 1\n"}, tmp_path, monkeypatch).keys() == {"one"}


def test_an_installation_without_sources_is_a_problem_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EnvironmentProblem, match="no module sources"):
        documents_of({}, tmp_path, monkeypatch)


def test_a_docstring_answers_and_the_arguments_follow() -> None:
    code = '''
class Wheel:
    def turn(self, /, by=1, *, back: bool = False):
        """Turn it.

        Slowly.
        """
'''
    (conversation,) = converse([Document(name="mill", text=code)], [])
    question, answer, second, arguments = conversation.turns
    assert "mill.Wheel.turn" in question
    assert answer == "Turn it.\n\nSlowly."
    assert second.endswith("?")
    assert arguments == "mill.Wheel.turn(by=1, *, back: bool=False)"


def test_private_undocumented_and_repeated_things_are_not_asked_about() -> None:
    code = """
def _private(): "No."
def bare(x): return x
def first(): "The same."
def second(): "The same."
class Wheel:
    @property
    def size(self): "Get it."
    @size.setter
    def size(self, value): "Set it."
    def __init__(self): "No."
"""
    modules = [Document(name="mill", text=code), Document(name="_hidden.mill", text='"""No."""')]
    assert [c.name for c in converse(modules, [])] == ["mill.first", "mill.Wheel.size"]


@pytest.mark.parametrize("code", ["print 'Python 2'\n", '"""Zero."""\nx = "\0"\n'])
def test_a_file_that_is_no_python_is_not_asked_about(code: str) -> None:
    assert converse([Document(name="mill", text=code)], []) == []


def test_an_old_escape_in_a_source_warns_nobody() -> None:
    assert converse([Document(name="mill", text='"""Grinds."""\npattern = "\\d"\n')], [])[0].turns[1] == "Grinds."


def test_a_topic_is_an_answer_unless_it_is_a_chapter() -> None:
    topics = [
        Document(name="topic short", text='The "assert" statement\n***\n\nText.'),
        Document(name="topic long", text="Chapter\n" + "text " * 4_000),
    ]
    (conversation,) = converse([], topics)
    assert 'the "assert" statement' in conversation.turns[0]
    assert conversation.turns[1] == topics[0].text


def test_wordings_vary() -> None:
    code = "".join(f'def f{i}(): "Does {i}."\n' for i in range(40))
    questions = {c.turns[0].replace(c.name, "{}") for c in converse([Document(name="mill", text=code)], [])}
    assert questions == {"What does {} do?", "What is {} for?", "How does {} work?", "Explain {}."}
