"""Windows: what stays in sight when the context is full."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataprep.errors import UsageError
from dataprep.paths import Paths
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab
from train.window import Prompt, chat_prompt, fit, text_prompt

TALK = [
    {"role": "system", "content": "sys"},
    {"role": "user", "content": "u1"},
    {"role": "assistant", "content": "a1"},
    {"role": "user", "content": "u2"},
    {"role": "assistant", "content": "a2"},
    {"role": "user", "content": "u3"},
]


@pytest.fixture(scope="module")
def vocab(encoded_root: Path) -> Vocab:
    return load_vocab(Paths(root=encoded_root), "tiny-bpe")


def read(vocab: Vocab, ids: list[int]) -> str:
    return vocab.decode(ids).replace("<|", "").replace("|>", " ")


def test_a_talk_falls_into_what_stays_and_whole_exchanges(vocab: Vocab) -> None:
    prompt = chat_prompt(vocab, TALK)
    assert read(vocab, list(prompt.head)) == "endoftext system_start syssystem_end "
    assert [read(vocab, list(exchange)) for exchange in prompt.exchanges] == [
        f"user_start u{n}user_end assistant_start a{n}assistant_end " for n in (1, 2)
    ]
    assert read(vocab, list(prompt.asked)) == "user_start u3user_end assistant_start "
    assert prompt.stops == {vocab.end_id, vocab.specials["<|assistant_end|>"]}
    assert chat_prompt(vocab, TALK[1:]).head == (vocab.end_id,)
    assert text_prompt(vocab, "ab").stops == {vocab.end_id}


def test_a_full_context_loses_the_oldest_exchange_and_never_the_system_turn_or_the_question(vocab: Vocab) -> None:
    prompt = chat_prompt(vocab, TALK)
    whole = prompt.ids
    assert fit(prompt, [], context=len(whole), n_more=99) == whole
    without_first = [*prompt.head, *prompt.exchanges[1], *prompt.asked]
    assert fit(prompt, [], context=len(whole) - 1, n_more=4) == without_first
    # Room for what may still follow is made at once: the second goes too where it would be in the way.
    stays = [*prompt.head, *prompt.asked]
    assert fit(prompt, [], context=len(stays) + 10, n_more=2) == without_first
    assert fit(prompt, [], context=len(stays) + 10, n_more=99) == stays


def test_an_answer_that_fills_the_context_loses_its_own_beginning_last(vocab: Vocab) -> None:
    prompt = chat_prompt(vocab, TALK)
    stays = [*prompt.head, *prompt.asked]
    said = list(range(30))
    assert fit(prompt, said, context=len(stays) + 30, n_more=99) == [*stays, *said]
    assert fit(prompt, said, context=len(stays) + 28, n_more=99) == [*stays, *said[-14:]]
    assert fit(prompt, said, context=len(stays) + 28, n_more=3) == [*stays, *said[-25:]]


def test_a_text_loses_its_oldest_tokens_and_keeps_the_end_token(vocab: Vocab) -> None:
    prompt = text_prompt(vocab, "abcdefghij")
    assert read(vocab, fit(prompt, [], context=11, n_more=5)) == "endoftext abcdefghij"
    assert read(vocab, fit(prompt, [], context=9, n_more=2)) == "endoftext efghij"
    assert read(vocab, fit(prompt, [], context=9, n_more=99)) == "endoftext ghij"


def test_a_question_longer_than_the_context_is_refused(vocab: Vocab) -> None:
    asked = [{"role": "user", "content": "a" * 60}]
    with pytest.raises(UsageError, match=r"too long for this model\n  seen: 63 tokens.*at most 56 of its 64"):
        fit(chat_prompt(vocab, asked), [], context=64, n_more=10)
    assert fit(chat_prompt(vocab, [{"role": "user", "content": "a" * 52}]), [], context=64, n_more=10)


ids = st.lists(st.integers(0, 9), max_size=12)


@given(
    exchanges=st.lists(ids, max_size=5),
    asked=ids,
    text=ids,
    said=st.lists(st.integers(0, 9), max_size=60),
    context=st.integers(8, 60),
    n_more=st.integers(1, 99),
)
def test_a_window_fits_and_holds_what_stays_the_latest_exchanges_and_the_newest_ids(
    *, exchanges: list[list[int]], asked: list[int], text: list[int], said: list[int], context: int, n_more: int
) -> None:
    asked, moves = asked[: context // 2], [*text, *said]
    prompt = Prompt(
        head=(0,), exchanges=tuple(map(tuple, exchanges)), asked=tuple(asked), text=tuple(text), stops=frozenset()
    )
    window = fit(prompt, said, context=context, n_more=n_more)
    assert len(window) <= context
    if len(prompt.ids) + len(said) <= context:
        assert window == [*prompt.ids, *said]
    latest = [[token for exchange in exchanges[n:] for token in exchange] for n in range(len(exchanges) + 1)]
    legal = [[0, *kept, *asked, *moves] for kept in latest]
    legal += [[0, *asked, *moves[n:]] for n in range(1, len(moves) + 1)]  # only once no exchange is left
    assert window in legal
