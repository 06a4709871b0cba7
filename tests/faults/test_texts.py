"""Hostile text: whatever a document holds, its bin is what tiktoken says, or the error names the file and the row."""

import json
from pathlib import Path

import pytest
from conftest import write_parquet
from odd import MESSAGES, check_against_oracle, mill, write_lines

from dataprep.rank_file import specials_after

MARKS = "\u202eright to left\u202c \u200f\u200e\u2066isolated\u2069 \u200bzero\u200d\ufeffwidth"
HOSTILE = (
    *(f"before {special} after{special}{special}" for special in specials_after(260)),
    "".join(specials_after(260)),
    *("\0", "a\0b\0\0c", "\x1b[31mred\x1b[0m\x07\x9b2J", MARKS, "\r\n\r\r\n\u2028\u2029\x85", "e\u0301\u0344" * 50),
    *(
        "a" * 100_000,
        " " * 100_000,
        "\n" * 100_000,
        "the" * 33_333,
        "中" * 100_000,
        "\U0001f469\u200d\U0001f52c" * 9_999,
    ),
    *("\ufffe\uffff\ufdd0\U0010ffff", "''''''s't'll", "in" * 50_000 + " the", " \t\n " * 25_000),
)


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "jsonl with escapes"])
def test_specials_controls_marks_and_long_runs_are_encoded_as_the_oracle_encodes_them(
    tmp_path: Path, kind: str
) -> None:
    if kind == "parquet":
        write_parquet(tmp_path / "odd/shard_0.parquet", list(HOSTILE))
    else:
        write_lines(tmp_path, [json.dumps({"text": text}, ensure_ascii="escapes" in kind) for text in HOSTILE])
    assert mill(tmp_path) == 0
    check_against_oracle(tmp_path, HOSTILE)


def test_ten_thousand_empty_documents_between_two_others_have_no_tokens(tmp_path: Path) -> None:
    texts = ["first", *[None, ""] * 5_000, "last"]
    write_parquet(tmp_path / "odd/shard_0.parquet", texts)
    assert mill(tmp_path) == 0
    check_against_oracle(tmp_path, texts)


def test_a_shard_of_empty_documents_alone_is_an_empty_bin(tmp_path: Path) -> None:
    write_lines(tmp_path, ['{"text": ""}', '{"text": null}', "{}"] * 1_000)
    assert mill(tmp_path) == 0
    check_against_oracle(tmp_path, [None] * 3_000)


def test_one_line_of_two_megabytes_is_a_document_like_any_other(tmp_path: Path) -> None:
    text = "the mill grinds in the mill; " * 72_000
    write_lines(tmp_path, [json.dumps({"text": text})])
    assert mill(tmp_path) == 0
    check_against_oracle(tmp_path, [text])


BAD_LINES = {
    "half a surrogate pair": ('{"text": "a\\ud83d"}', "half of a surrogate pair"),
    "the other half first": ('{"text": "\\ude00\\ud83d"}', "half of a surrogate pair"),
    "a raw NUL": ('{"text": "a\0b"}', "Invalid control character"),
    "a number": ('{"text": 3}', "text = 3, which is no text"),
    "a list": ('{"text": ["a"]}', "which is no text"),
    "no object": ("[1, 2]", "no JSON object"),
    "a line cut short": ('{"text": "a"', "Expecting"),
}
GOOD_TALK = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_line_that_is_no_text_is_named_by_file_row_and_line(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line, why = BAD_LINES[case]
    write_lines(tmp_path, [*['{"text": "good"}'] * 3_000, "", line, '{"text": "good"}'])
    assert mill(tmp_path) == 3
    error = capsys.readouterr().err
    assert "error: row 3,000 (line 3,002) of shard_0.jsonl cannot be read" in error
    assert why in error
    assert not (tmp_path / "data/bins/tiny-bpe/odd/shard_0.bin").exists()


@pytest.mark.parametrize(
    ("line", "where"),
    [
        (GOOD_TALK.replace('"b"', '"b\\ud800"'), "row 1,030 of"),
        (GOOD_TALK.replace('"b"', '"b" x'), "row 1,030 (line 1,031) of"),
        ('{"messages": ' + "[" * 100_000 + "]" * 100_000 + "}", "row 1,030 (line 1,031) of"),
    ],
    ids=["half a surrogate pair", "no JSON", "lists in lists 100,000 deep"],
)
def test_a_conversation_that_cannot_be_read_is_named_by_file_and_row(
    tmp_path: Path, line: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(tmp_path, [*[GOOD_TALK] * 1_030, line, GOOD_TALK])
    assert mill(tmp_path, columns=MESSAGES) == 3
    assert f"{where} shard_0.jsonl cannot be read" in capsys.readouterr().err


def test_bytes_that_are_no_utf_8_are_named_by_file_and_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_lines(tmp_path, ['{"text": "good"}'] * 1_500)
    file.write_bytes(file.read_bytes() + b'{"text": "\xff\xfe"}\n')
    assert mill(tmp_path) == 3
    assert "row 1,500 of shard_0.jsonl cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["3", "true", '["a"]', '{"a": 1}'])
def test_an_answer_that_is_no_text_is_told_in_three_lines(
    tmp_path: Path, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(tmp_path, ['{"question": "2+3?", "answer": %s}' % value])  # noqa: UP031 -- braces stay braces
    assert mill(tmp_path, columns='question = "question"\nanswer = "answer"') == 3
    assert "column 'answer' of shard_0.jsonl does not hold what layout 'question' needs" in capsys.readouterr().err
