"""Any bytes at all: a reader returns a value or a QuernError, the encoder what tiktoken does.."""

import json
from pathlib import Path
from typing import Any

import pytest
from fuzzed import TARGETS, check_conversation
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dataprep.paths import Paths
from dataprep.vocab_store import load_vocab

SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
DEEP = b"[" * 100_000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
TEXT = st.text(max_size=12) | st.none()
PART = st.fixed_dictionaries({"type": st.sampled_from(["text", "python", "output", "odd"]), "text": TEXT})
TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "robot"]), "content": TEXT | st.lists(PART, max_size=3)}
)
SAID = st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt", "system", "user", "tool"]), "value": TEXT})


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_a_value_or_a_clear_error(name: str, tmp_path: Path) -> None:
    target = TARGETS[name](tmp_path)

    @SETTINGS
    @given(st.binary(max_size=200) | st.text(max_size=60).map(str.encode) | JSON.map(json.dumps).map(str.encode))
    @example(DEEP)
    @example(b"a = " + DEEP)
    @example(b'{"a": ' * 50_000)
    @example(b'{"kind": []}\n[]\n')
    @example(b"9" * 5_000)
    @example(b"icl_tasks: [2020-99-99]")
    @example("1²:٣".encode())
    @example(b"\xed\xa0\x80")
    def check(data: bytes) -> None:
        target(data)

    check()


@pytest.mark.parametrize("layout", ["messages", "conversations"])
def test_a_thousand_conversations_at_once_are_rendered_as_one_at_a_time(layout: str, tmp_path: Path) -> None:
    TARGETS["conversation"](tmp_path)
    vocab = load_vocab(Paths(root=tmp_path), "tiny-bpe")
    turn = TURN if layout == "messages" else SAID | TEXT

    @settings(SETTINGS, max_examples=100)
    @given(st.lists(turn | st.none(), max_size=5))
    def check(value: list[Any]) -> None:
        check_conversation(vocab, layout, value)

    check()
