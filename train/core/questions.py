"""Questions: an item's prompts as tokens, and the span of each that is judged.

In:  a task, the places of the items asked. Out: `Question`s.
Holds: the end token comes first, as before every document in training; a prompt longer than the context keeps its
       last tokens; a span never holds position 0, which nothing foretells.
Spans: multiple choice  from where the choices' tokens part to the end         e Q > |A    e Q > |B C
       schema           the tokens at the end that all options share           e X |was so    e Y |was so
       language model   what follows the prompt without the continuation       e Q > |A
A span that alone is longer than the context keeps its end, all but the one token needed before it: the reference
would stop there. So no span is ever cut off entirely; `is_cut` counts prompts that lost their beginning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dataprep.bundle import LanguageModeling, MultipleChoice, Schema, Task
from dataprep.errors import DataError
from dataprep.vocab import Vocab
from train.core.prompts import render


@dataclass(frozen=True, kw_only=True)
class Question:
    """One item: a sequence of tokens for each choice (one for language modeling), judged from its start to its end."""

    sequences: tuple[np.ndarray, ...]  # int64
    starts: tuple[int, ...]
    gold: int | None  # None: every token of the span must be the likeliest
    is_cut: bool

    @property
    def has_empty_span(self) -> bool:
        """Whether a choice has no tokens of its own."""
        return any(start >= len(tokens) for tokens, start in zip(self.sequences, self.starts, strict=True))


def ask(vocab: Vocab, task: Task, asked: Sequence[int], places: Sequence[int], *, seq_len: int) -> list[Question]:
    """The questions at `places` of the list of items asked, encoded in one go."""
    prompts = [render(task, asked, place) for place in places]
    tokens = iter(encode(vocab, [text for texts in prompts for text in texts]))
    return [
        _question(task, asked[place], [next(tokens) for _ in texts], seq_len)
        for place, texts in zip(places, prompts, strict=True)
    ]


def encode(vocab: Vocab, texts: Sequence[str]) -> list[np.ndarray]:
    """Each text's ids after the end token, int64. By the fast engine: prompts repeat each other's shots."""
    if not texts:
        return []
    ids, offsets = vocab.encode_texts(pa.array(texts, pa.large_string()))  # pyright: ignore[reportArgumentType]
    parts = np.split(ids.astype(np.int64), offsets[1:-1] - offsets[0])
    return [np.concatenate(([vocab.end_id], part)) for part in parts]


def common_length(sequences: Sequence[np.ndarray]) -> int:
    """How many tokens all sequences begin with."""
    shortest = min(map(len, sequences))
    stacked = np.stack([tokens[:shortest] for tokens in sequences])
    differs = (stacked != stacked[0]).any(axis=0)
    return int(differs.argmax()) if differs.any() else shortest


def _question(task: Task, number: int, sequences: list[np.ndarray], seq_len: int) -> Question:
    match task.items[number]:
        case MultipleChoice(gold=gold):
            starts = [common_length(sequences)] * len(sequences)
        case Schema(gold=gold):
            n_shared = common_length([tokens[::-1] for tokens in sequences])
            starts = [len(tokens) - n_shared for tokens in sequences]
        case LanguageModeling():
            gold = None
            starts, sequences = [_continuation_start(task, number, *sequences)], sequences[1:]
    surplus = [max(0, len(tokens) - seq_len) for tokens in sequences]
    return Question(
        sequences=tuple(tokens[cut:] for tokens, cut in zip(sequences, surplus, strict=True)),
        starts=tuple(max(1, start - cut) for start, cut in zip(starts, surplus, strict=True)),
        gold=gold,
        is_cut=any(surplus),
    )


def _continuation_start(task: Task, number: int, without: np.ndarray, whole: np.ndarray) -> int:
    if common_length([without, whole]) < len(without) or len(without) == len(whole):
        raise DataError(
            f"item {number} of task {task.label} cannot be asked: its continuation does not begin at a token's edge",
            seen=f"{len(without)} tokens without it, of which {common_length([without, whole])} begin the whole prompt",
            wanted="a prompt whose tokens begin those of prompt and continuation, and at least one more",
            fix=f"leave {task.label} out of the bundle's core.yaml, or mend line {number + 1} of its items",
        )
    return len(without)
