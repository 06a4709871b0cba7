"""Chat: who is left out and why, what a prompt is, and that the fast path says what the plain one says."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import byte_ranks
from hypothesis import given, settings
from hypothesis import strategies as st

from dataprep import chat, layouts, turns
from dataprep.assembly import follow
from dataprep.errors import UsageError
from dataprep.paths import Paths
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab, publish_vocab

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}
SYSTEM = {"role": "system", "content": "Be kind"}
PART = pa.struct([("text", pa.string()), ("type", pa.string())])
PARTS = pa.list_(pa.struct([("content", pa.list_(PART)), ("role", pa.string())]))
PLAIN = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SHAREGPT = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))


@pytest.fixture(scope="module")
def vocab(tmp_path_factory: pytest.TempPathFactory) -> Vocab:
    paths = Paths(root=tmp_path_factory.mktemp("vocab"))
    publish_vocab(paths, "tiny-bpe", byte_ranks(), origin="made by the tests")
    return load_vocab(paths, "tiny-bpe")


def says(role: str, *parts: tuple[str | None, str | None]) -> dict[str, Any]:
    return {"role": role, "content": [{"type": kind, "text": text} for kind, text in parts]}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], None),
        ([USER], None),
        ([USER, ASSISTANT], None),
        ([SYSTEM], None),
        ([SYSTEM, USER, ASSISTANT, USER], None),
        ([ASSISTANT], "roles do not alternate"),
        ([USER, USER], "roles do not alternate"),
        ([USER, ASSISTANT, ASSISTANT], "roles do not alternate"),
        ([USER, SYSTEM], "roles do not alternate"),
        ([SYSTEM, SYSTEM, USER], "roles do not alternate"),
        ([SYSTEM, ASSISTANT], "roles do not alternate"),
        ([USER, {"role": "tool", "content": "x"}], "unknown role"),
        ([USER, {"role": "Assistant", "content": "x"}], "unknown role"),
        ([USER, {"role": None, "content": "x"}], "unknown role"),
        ([None, USER], "unknown role"),
        ([USER, {"role": "assistant", "content": ""}], "empty content"),
        ([USER, {"role": "assistant", "content": None}], "empty content"),
        ([{"role": "user", "content": " "}, ASSISTANT], None),
        ([USER, USER, {"role": "assistant", "content": ""}], "empty content"),
        ([says("user", ("text", "x")), says("assistant")], "empty content"),
        ([says("user", ("text", "x")), says("assistant", ("text", ""), ("output", None))], "empty content"),
        ([says("user", ("text", "x")), says("assistant", ("text", ""), ("python", "f()"))], None),
        ([says("user", ("text", "x")), says("assistant", ("image", "x"))], "unknown part"),
        ([says("user", ("text", "x")), says("assistant", (None, "x"))], "unknown part"),
        ([says("user", ("python", "x"))], "tool part outside an assistant's turn"),
        ([says("system", ("output", "x"))], "tool part outside an assistant's turn"),
    ],
)
def test_a_conversation_is_left_out_for_one_reason_by_both_paths(messages: list[Any], reason: str | None) -> None:
    read = layouts.read_document("messages", [messages])
    assert read == reason if reason else isinstance(read, list)
    has_parts = any(isinstance((message or {}).get("content"), list) for message in messages)
    column = pa.array([messages, [USER] if not has_parts else None], PARTS if has_parts else PLAIN)
    assert turns.script_of_column(column, "messages").reasons == [reason, None]


@pytest.mark.parametrize(
    "message",
    [5, "text", [], {"role": "assistant", "content": 5}, says("assistant", ("text", 5))],  # type: ignore[arg-type]
)
def test_json_that_is_no_message_is_left_out_and_not_fatal(message: Any) -> None:
    assert layouts.read_document("messages", [[USER, message]]) in {"unknown role", "unknown part"}


@pytest.mark.parametrize(
    ("choices", "answer", "reason"),
    [
        (["x", "y"], 2, "malformed answer"),
        (["x", "y"], -1, "malformed answer"),
        (["x", "y"], True, "malformed answer"),
        (["x", "y"], "C", "malformed answer"),
        (["x", "y"], "", "malformed answer"),
        (["x", "y"], "AB", "malformed answer"),
        (["x", "y"], None, "malformed answer"),
        ([], 0, "malformed choices"),
        (None, 0, "malformed choices"),
        (["x", ""], 0, "malformed choices"),
        (["x", None], 0, "malformed choices"),
        (["x"] * 27, 0, "malformed choices"),
    ],
)
def test_a_multiple_choice_that_has_no_answer_is_left_out(choices: Any, answer: Any, reason: str) -> None:
    assert layouts.read_document("choices", ["q", choices, answer]) == reason


def test_an_answer_is_an_index_or_its_letter() -> None:
    by_index, by_letter = (layouts.read_document("choices", ["q", ["x", "y"], answer]) for answer in (1, "B"))
    assert by_index == by_letter
    assert by_index[1] == chat.Message("assistant", (("text", "B"),))  # type: ignore[index]


def test_a_question_without_its_answer_is_left_out_and_one_without_both_is_empty() -> None:
    assert layouts.read_document("question", ["q", None]) == "empty content"
    assert layouts.read_document("question", [None, "a"]) == "empty content"
    assert layouts.read_document("question", [None, None]) == []
    assert layouts.read_document("choices", [None, None, None]) == []


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("<<1=1>>", [("python", "1"), ("output", "1")]),
        ("<<a=b=c>>x", [("python", "a=b"), ("output", "c"), ("text", "x")]),
        (
            "x<<1+1=2>><<2+2=4>>",
            [("text", "x"), *[("python", "1+1"), ("output", "2"), ("python", "2+2"), ("output", "4")]],
        ),
        ("<<=5>>", [("text", "<<=5>>")]),
        ("<<5=>>", [("text", "<<5=>>")]),
        ("1 << 2 and 4 >> 0", [("text", "1 << 2 and 4 >> 0")]),
    ],
)
def test_calculations_are_cut_out_of_an_answer(answer: str, parts: list[tuple[str, str]]) -> None:
    messages = layouts.read_document("question", ["q", answer])
    assert messages[1] == chat.Message("assistant", tuple(parts))  # type: ignore[index]


def test_a_prompt_ends_where_the_assistant_begins(vocab: Vocab) -> None:
    end = vocab.end_id
    assert chat.prompt_ids(vocab, [{"role": "user", "content": "a"}]) == [end + 1, 97, end + 2, end + 3]
    longer = chat.prompt_ids(vocab, [SYSTEM, USER, ASSISTANT, USER])
    learned, _ = chat.render(vocab, chat.read_messages([SYSTEM, USER, ASSISTANT, USER, ASSISTANT]))
    assert learned[: len(longer)] == longer
    assert longer[-1] == vocab.specials["<|assistant_start|>"]


@pytest.mark.parametrize("messages", [[], [USER, ASSISTANT], [SYSTEM], [USER, USER], [{"role": "user", "content": ""}]])
def test_a_prompt_that_is_not_the_assistants_turn_is_refused(vocab: Vocab, messages: list[Any]) -> None:
    with pytest.raises(UsageError, match="cannot be asked"):
        chat.prompt_ids(vocab, messages)


TEXTS = st.one_of(
    st.none(), st.sampled_from(["", "the", "in it", "é🤦", "<|assistant_end|>", "<|endoftext|>"]), st.text(max_size=8)
)
ROLES = st.sampled_from(["user", "assistant", "system", "user", "assistant", "tool", None])
KINDS = st.sampled_from(["text", "text", "python", "output", "python_output", "image", None])
CONTENT_PARTS = st.lists(st.one_of(st.none(), st.fixed_dictionaries({"type": KINDS, "text": TEXTS})), max_size=3)


def turns_of(names: tuple[str, str], roles: st.SearchStrategy[Any], contents: st.SearchStrategy[Any]) -> Any:
    """Conversations that alternate, and some that do not."""
    any_turn = st.one_of(st.none(), st.fixed_dictionaries({names[0]: roles, names[1]: contents}))
    first, second = ("user", "assistant") if names[0] == "role" else ("human", "gpt")
    good = st.lists(contents, max_size=4).map(
        lambda some: [{names[0]: (first, second)[i % 2], names[1]: content} for i, content in enumerate(some)]
    )
    return st.lists(st.one_of(st.none(), st.lists(any_turn, max_size=4), good), min_size=1, max_size=6)


SHAREGPT_ROLES = st.sampled_from(["human", "gpt", "system", "user", "assistant", "bing", None])
DOCUMENTS = st.one_of(
    st.tuples(st.just("messages"), st.just(PLAIN), turns_of(("role", "content"), ROLES, TEXTS)),
    st.tuples(st.just("messages"), st.just(PARTS), turns_of(("role", "content"), ROLES, st.none() | CONTENT_PARTS)),
    st.tuples(st.just("conversations"), st.just(SHAREGPT), turns_of(("from", "value"), SHAREGPT_ROLES, TEXTS)),
    st.tuples(
        st.just("conversations"),
        st.sampled_from([pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.binary())]),
        st.lists(st.one_of(st.none(), st.lists(TEXTS, max_size=5)), min_size=1, max_size=6),
    ),
)


@settings(max_examples=300, deadline=None)
@given(case=DOCUMENTS, cut=st.integers(0, 2))
def test_a_batch_is_what_its_conversations_are_one_by_one(vocab: Vocab, case: Any, cut: int) -> None:
    layout, kind, documents = case
    if pa.types.is_list(kind) and pa.types.is_binary(kind.value_type):
        column = pa.array([d and [t and t.encode() for t in d] for d in documents], kind)
    else:
        column = pa.array(documents, kind)
    column, documents = column.slice(cut), documents[cut:]  # buffers that begin before the batch does
    read = [layouts.read_document(layout, [document]) for document in documents]
    rendered = [chat.render(vocab, [] if isinstance(some, str) else some) for some in read]
    for script in (turns.script_of_column(column, layout), turns.script_of_messages(read)):
        done = follow(script, *vocab.encode_texts(script.texts), vocab)
        assert list(script.reasons) == [some if isinstance(some, str) else None for some in read]
        assert done.tokens.tolist() == [token for ids, _ in rendered for token in ids]
        assert done.ends.tolist() == np.cumsum([len(ids) for ids, _ in rendered]).astype(int).tolist()
        assert done.loss is not None
        assert done.loss.tolist() == [learned for _, loss in rendered for learned in loss]
        assert done.count_unsupervised() == sum(bool(ids) and not any(loss) for ids, loss in rendered)
