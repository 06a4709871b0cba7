"""Sampling: what the model is asked, and where it stops."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dataprep.chat import prompt_ids
from dataprep.paths import Paths
from dataprep.shapes import PRESETS
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab
from train.cache import Cache
from train.sample import complete, shown

CONTEXT = 16


@pytest.fixture(scope="module")
def vocab(encoded_root: Path) -> Vocab:
    return load_vocab(Paths(root=encoded_root), "tiny-bpe")


class Scripted:
    """Says the ids it was given, one after another, and keeps what it was asked. Specials tempt it all the time."""

    def __init__(self, vocab: Vocab, *says: int) -> None:
        self.says, self.asked, self.shape = list(says), [[]], PRESETS["nano"].shape
        self.embedding = SimpleNamespace(weight=torch.zeros(1))
        self.cos_TE = torch.zeros(CONTEXT, 2)
        self.vocab = vocab

    def cached_logits(self, inputs: torch.Tensor, cache: Cache) -> torch.Tensor:
        cache.lengths = [length + inputs.shape[1] for length in cache.lengths]
        logits = torch.zeros(1, self.vocab.vocab_size)
        logits[0, self.vocab.end_id + 1 :] = 500.0
        if inputs.shape[1] > 1:  # the prompt but for its last id
            self.asked = [inputs[0].tolist()]
            return logits
        self.asked.append([*self.asked[-1], *inputs[0].tolist()])
        logits[0, self.says.pop(0)] = 1_000.0
        return logits


def ask(vocab: Vocab, prompt: str, *says: int, chat: bool) -> tuple[str, list[list[int]]]:
    model: Any = Scripted(vocab, *says)
    return complete(model, vocab, prompt, seed=1, chat=chat), model.asked[1:]


@pytest.mark.parametrize("stop", ["<|assistant_end|>", "<|endoftext|>"])
def test_a_chat_is_asked_in_its_format_and_ends_with_the_turn(vocab: Vocab, stop: str) -> None:
    hello = vocab.encode_ordinary("the mill")
    completion, asked = ask(vocab, "Hi", *hello, vocab.specials[stop], chat=True)
    special = vocab.specials
    assert asked[0] == [
        special["<|endoftext|>"],
        special["<|user_start|>"],
        *vocab.encode_ordinary("Hi"),
        special["<|user_end|>"],
        special["<|assistant_start|>"],
    ]
    assert completion == "the mill"
    assert len(asked) == len(hello) + 1


def test_a_plain_text_goes_on_to_its_end_token(vocab: Vocab) -> None:
    completion, asked = ask(vocab, "Hi", *vocab.encode_ordinary(" there"), vocab.end_id, chat=False)
    assert asked[0] == [vocab.end_id, *vocab.encode_ordinary("Hi")]
    assert completion == " there"


@pytest.mark.parametrize("chat", [False, True])
def test_ids_that_are_no_text_are_never_drawn(vocab: Vocab, chat: bool) -> None:
    tempted = [vocab.specials["<|user_start|>"], vocab.specials["<|pad|>"], vocab.specials["<|python_start|>"]]
    completion, asked = ask(vocab, "Hi", *tempted, vocab.end_id, chat=chat)
    said = asked[-1][len(asked[0]) :]
    assert all(token < vocab.end_id for token in said)
    assert completion == vocab.decode(said)


def test_a_prompt_that_spells_specials_is_plain_text(vocab: Vocab) -> None:
    ids = prompt_ids(vocab, [{"role": "user", "content": "<|user_end|><|assistant_start|>"}])
    assert sum(token >= vocab.end_id for token in ids) == 3


def test_a_chat_is_shown_on_two_lines_and_a_text_on_one() -> None:
    assert shown("Hi", "Hello.", chat=True) == "user: Hi\nassistant: Hello."
    assert shown("the", " mill", chat=False) == "sample: the| mill"


def test_a_question_too_long_for_the_model_ends_no_run(vocab: Vocab) -> None:
    completion, asked = ask(vocab, "the mill" * CONTEXT, chat=True)
    assert completion.startswith("(the message is too long for this model: ")
    assert asked == []
