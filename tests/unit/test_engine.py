"""The engine against the slow way: every token by running the whole row again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dataprep.errors import UsageError
from dataprep.paths import Paths
from dataprep.shapes import PRESETS, padded_vocab_size
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab
from train.answering import Row
from train.cache import Cache
from train.engine import Engine, Prompt, chat_prompt, text_prompt
from train.model import GPT
from train.sampling import Sampling
from train.window import fit

CONTEXT = 64
NANO = PRESETS["nano"].shape
GREEDY = Sampling(temperature=0, max_tokens=20)
TEXTS = ("the mill", "", "grinds every shard of text", "x")


@pytest.fixture(scope="module")
def vocab(encoded_root: Path) -> Vocab:
    return load_vocab(Paths(root=encoded_root), "tiny-bpe")


@pytest.fixture(scope="module")
def model(vocab: Vocab) -> GPT:
    """Nobody taught it anything, but it is sure of what it says; in float64 nothing is near a tie."""
    torch.manual_seed(0)
    model = GPT(NANO, vocab_size=vocab.vocab_size, seq_len=CONTEXT).double()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(8)
    return model.eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def engine(model: GPT, vocab: Vocab) -> Engine:
    return Engine(model, vocab)


def slowly(model: GPT, vocab: Vocab, prompt: Prompt, n_tokens: int) -> str:
    """Greedy, without a cache: the whole window again for every token."""
    window, said = fit(prompt, [], context=CONTEXT, n_more=n_tokens), []
    legal = [*range(vocab.end_id), *prompt.stops]
    while len(said) < n_tokens:
        if len(window) > CONTEXT:
            window = fit(prompt, said, context=CONTEXT, n_more=n_tokens - len(said))
        logits = model.next_logits(torch.tensor([window]))[0]
        token = max(legal, key=logits.tolist().__getitem__)
        if token in prompt.stops:
            break
        said.append(token)
        window.append(token)
    return vocab.decode(said)


def test_cached_logits_are_those_of_the_whole_row_for_rows_of_any_lengths(vocab: Vocab) -> None:
    torch.manual_seed(1)
    model = GPT(NANO, vocab_size=vocab.vocab_size, seq_len=CONTEXT)
    drawn = torch.randint(vocab.end_id, (3, CONTEXT), generator=torch.Generator().manual_seed(0))
    lengths, n_read = [9, 1, 30], 0
    cache = Cache.empty(NANO, n_rows=3, n_positions=CONTEXT, like=model.embedding.weight)
    with torch.inference_mode():
        model.cached_logits(drawn[:, :30], cache)  # the shorter rows' last ids count as padding
        cache.lengths = list(lengths)
        while max(lengths) < CONTEXT:
            new = torch.stack([drawn[row, length : length + 1] for row, length in enumerate(lengths)])
            lengths, n_read = [length + 1 for length in lengths], n_read + 1
            found = model.cached_logits(new, cache)
            for row, length in enumerate(lengths):
                torch.testing.assert_close(found[row], model.next_logits(drawn[row : row + 1, :length])[0])
    assert n_read == 34
    assert cache.lengths == lengths


def test_several_positions_may_be_read_after_others(vocab: Vocab) -> None:
    torch.manual_seed(1)
    model = GPT(NANO, vocab_size=vocab.vocab_size, seq_len=CONTEXT)
    drawn = torch.randint(vocab.end_id, (2, 20), generator=torch.Generator().manual_seed(0))
    cache = Cache.empty(NANO, n_rows=2, n_positions=20, like=model.embedding.weight)
    with torch.inference_mode():
        for begin, end in ((0, 7), (7, 8), (8, 20)):
            found = model.cached_logits(drawn[:, begin:end], cache)
            torch.testing.assert_close(found, model.next_logits(drawn[:, :end]))


def test_each_row_of_a_batch_says_what_it_says_alone_and_without_a_cache(
    model: GPT, vocab: Vocab, engine: Engine
) -> None:
    prompts = [text_prompt(vocab, text) for text in TEXTS]
    together = engine.generate(prompts, GREEDY)
    assert [answer.text for answer in together] == [slowly(model, vocab, prompt, 20) for prompt in prompts]
    assert together == [engine.generate([prompt], GREEDY)[0] for prompt in prompts]
    assert len({answer.text for answer in together}) == len(TEXTS)
    assert [answer.n_prompt_tokens for answer in together] == [len(prompt.ids) for prompt in prompts]


def test_a_draw_depends_on_its_row_alone(vocab: Vocab, engine: Engine) -> None:
    drawn = Sampling(temperature=1.5, top_k=None, max_tokens=12)
    samplings = [replace(drawn, seed=seed, max_tokens=3 + seed) for seed in range(20)]  # more than run at once
    samplings[3] = replace(samplings[3], top_p=0.8, repetition_penalty=1.3)
    samplings[5] = replace(samplings[5], temperature=0)
    prompts = [text_prompt(vocab, TEXTS[seed % 4]) for seed in range(20)]
    together = engine.generate(prompts, samplings)
    assert together == [engine.generate([each], one)[0] for each, one in zip(prompts, samplings, strict=True)]
    assert len({answer.text for answer in together}) > 15
    assert engine.generate([], drawn) == []


@pytest.mark.parametrize("n_tokens", [63, 150])
def test_a_context_that_is_full_slides_and_rows_stay_apart(
    model: GPT, vocab: Vocab, engine: Engine, n_tokens: int
) -> None:
    talk = [
        {"role": "system", "content": "be"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yo"},
    ]
    chat = chat_prompt(vocab, [*talk, {"role": "user", "content": "the mill?"}])
    prompts = [chat, text_prompt(vocab, "the mill"), text_prompt(vocab, "grinds " * 40)]
    long = replace(GREEDY, max_tokens=n_tokens)
    together = engine.generate(prompts, long)
    assert [answer.text for answer in together] == [slowly(model, vocab, prompt, n_tokens) for prompt in prompts]
    assert max(answer.n_tokens for answer in together) == n_tokens


def test_a_stream_gives_the_same_text_in_pieces(vocab: Vocab, engine: Engine) -> None:
    drawn = Sampling(temperature=1.5, max_tokens=60)
    stream = engine.stream(text_prompt(vocab, "the mill"), drawn)
    pieces = list(stream)
    assert "".join(pieces) == stream.answer.text
    assert stream.answer == engine.generate([text_prompt(vocab, "the mill")], drawn)[0]
    assert all(pieces)
    assert "\ufffd" in stream.answer.text  # bytes at random: hardly UTF-8


def test_a_stream_that_is_left_tells_what_it_said(vocab: Vocab, engine: Engine) -> None:
    stream = engine.stream(text_prompt(vocab, "the mill"), GREEDY)
    first = next(iter(stream))
    assert stream.answer.text == first
    assert stream.answer.finish == "length"


def test_a_question_that_leaves_no_room_is_refused_before_anything_is_said(vocab: Vocab, engine: Engine) -> None:
    with pytest.raises(UsageError, match="too long for this model"):
        engine.stream(chat_prompt(vocab, [{"role": "user", "content": "a" * 64}]), GREEDY)


@given(st.binary(max_size=12))
def test_pieces_are_whole_characters_and_add_up_to_all_bytes(vocab: Vocab, said: bytes) -> None:
    row = Row(vocab, text_prompt(vocab, ""), Sampling(max_tokens=99), CONTEXT)
    for byte in said:
        row.take(byte)  # the first 256 ranks are the bytes
    row.take(vocab.end_id)
    assert row.answer.text == said.decode("utf-8", "replace")
    assert row.answer.finish == "stop"


def test_a_character_is_said_once_it_is_whole(vocab: Vocab) -> None:
    row = Row(vocab, text_prompt(vocab, ""), Sampling(max_tokens=5), CONTEXT)
    seen = []
    for byte in "é€".encode():
        row.take(byte)
        seen.append(list(row.pieces))
    assert seen == [[], ["é"], ["é"], ["é"], ["é", "€"]]
    assert row.finish == "length"


class Tempter:
    """Says the ids it was given; everything that is no text, and every padding id, is far likelier."""

    def __init__(self, vocab: Vocab, says: Sequence[int]) -> None:
        self.says, self.vocab, self.shape = list(says), vocab, NANO
        self.embedding = SimpleNamespace(weight=torch.zeros(1))
        self.cos_TE = torch.zeros(CONTEXT, 2)

    def cached_logits(self, inputs: torch.Tensor, cache: Cache) -> torch.Tensor:
        begins = not any(cache.lengths) and inputs.shape[1] > 1
        cache.lengths = [length + inputs.shape[1] for length in cache.lengths]
        logits = torch.zeros(1, padded_vocab_size(self.vocab.vocab_size))
        logits[:, self.vocab.end_id :] = 500.0
        logits[0, self.says[0] if begins else self.says.pop(0)] = 1_000.0
        return logits


@pytest.mark.parametrize("temperature", [0.0, 5.0])
def test_no_special_but_a_stop_and_no_padding_is_ever_said(vocab: Vocab, temperature: float) -> None:
    chat, text = chat_prompt(vocab, [{"role": "user", "content": "Hi"}]), text_prompt(vocab, "Hi")
    for prompt in (chat, text):
        for token in range(vocab.end_id, padded_vocab_size(vocab.vocab_size)):
            model: Any = Tempter(vocab, [ord("a"), token])
            answer = Engine(model, vocab).generate([prompt], Sampling(temperature=temperature, max_tokens=2))[0]
            assert answer.finish == "stop"  # a stop is the only special left to it
            assert answer.text == "a"
    model = Tempter(vocab, [ord("a"), vocab.specials["<|assistant_end|>"]])
    assert Engine(model, vocab).generate([chat], GREEDY)[0].n_tokens == 1


def test_a_repetition_penalty_covers_prompt_and_answer_but_no_stop(vocab: Vocab) -> None:
    prompt = chat_prompt(vocab, [{"role": "user", "content": "ab"}])
    row = Row(vocab, prompt, Sampling(repetition_penalty=1.2), CONTEXT)
    row.take(ord("z"))
    assert row.seen.nonzero().flatten().tolist() == sorted(vocab.encode_ordinary("abz"))
