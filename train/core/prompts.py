"""Prompts: which items of a task are asked, which others are shown before each, and how that reads as text.

In:  a task of a bundle. Out: the numbers of the items asked, in order; each one's prompts, a text per choice.
Holds: the draws are those of nanochat's rules, from Python's own generator: the same items and shots everywhere.
    Q one> A        a shot: another item with its right answer
                    a blank line
    Q two> B        the item, once with each of its choices
"""

import random
from collections.abc import Sequence

from dataprep.bundle import Item, LanguageModeling, MultipleChoice, Schema, Task
from dataprep.errors import UsageError

_ORDER_SEED, _SHOTS_SEED = 1337, 1234


def asked_items(n_items: int, max_per_task: int | None) -> list[int]:
    """Numbers of the items asked: all of them shuffled, then the first `max_per_task`."""
    numbers = list(range(n_items))
    random.Random(_ORDER_SEED).shuffle(numbers)  # which order depends on how many there are, not on what they are
    return numbers[:max_per_task]


def shot_places(place: int, n_asked: int, n_shots: int) -> list[int]:
    """Places, in the list of items asked, of those shown before the item at `place`; never itself."""
    others = [other for other in range(n_asked) if other != place]
    return random.Random(_SHOTS_SEED + place).sample(others, n_shots) if n_shots else []


def refuse_few_items(tasks: Sequence[Task], max_per_task: int | None) -> None:
    """Raise UsageError where a task's items asked are too few to show the shots from."""
    for task in tasks:
        n_asked = min(len(task.items), max_per_task or len(task.items))
        if n_asked <= task.n_shots:
            raise UsageError(
                f"task {task.label} shows {task.n_shots} other items before each, of those that are asked",
                seen=f"{n_asked} asked of {len(task.items):,}",
                wanted=f"at least {task.n_shots + 1}",
                fix=f"--max-per-task {1 + max(other.n_shots for other in tasks)}, or leave the flag out",
            )


def render(task: Task, asked: Sequence[int], place: int) -> list[str]:
    """The prompts of one item: one for each choice; for language modeling without and with the continuation."""
    shots = [task.items[asked[shot]] for shot in shot_places(place, len(asked), task.n_shots)]
    before = "".join(f"{_answered(shot, task.delimiter)}\n\n" for shot in shots)
    item = task.items[asked[place]]
    texts = [before + text for text in _candidates(item, task.delimiter)]
    if isinstance(item, LanguageModeling):
        # Else its last blank would be a token of its own here, and a part of the next token with the continuation.
        texts[0] = texts[0].strip()
    return texts


def _answered(item: Item, delimiter: str) -> str:
    """An item as a shot: with its right answer."""
    return _candidates(item, delimiter)[1 if isinstance(item, LanguageModeling) else item.gold]


def _candidates(item: Item, delimiter: str) -> list[str]:
    match item:
        case MultipleChoice(query=query, choices=choices):
            return [f"{query}{delimiter}{choice}" for choice in choices]
        case Schema(context_options=options, continuation=continuation):
            return [f"{option}{delimiter}{continuation}" for option in options]
        case LanguageModeling(context=context, continuation=continuation):
            return [f"{context.strip()}{delimiter}", f"{context.strip()}{delimiter}{continuation}"]
