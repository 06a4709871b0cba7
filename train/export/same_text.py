"""Same text: the exported tokenizer's ids and conversations, one by one against ours.

In:  a loaded tokenizer, our `Vocab`. Out: how much was compared; raises DataError for the first difference.
Holds: text is compared as training took it, specials in it as plain characters (split_special_tokens=True); there,
       with the opening end token in front, and back again.
"""

from typing import Any

from dataprep.chat import prompt_ids, read_messages, render
from dataprep.errors import DataError
from dataprep.vocab import Vocab
from train.export import evidence

_BEGUN = 32  # characters of each text that are encoded once more, with what opens a document


def compare_ids(tokenizer: Any, vocab: Vocab) -> tuple[int, int]:
    """(texts, tokens) compared: there and back."""
    for special, number in vocab.specials.items():
        if tokenizer.convert_tokens_to_ids(special) != number:
            raise differs(f"{special} has another id", tokenizer.convert_tokens_to_ids(special), number)
    texts, n_tokens = evidence.hostile(vocab.specials), 0
    for text in texts:
        wanted = vocab.encode_ordinary(text)
        found = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        n_tokens += len(wanted)
        if found != wanted:
            raise differs(f"ids of {_where(text, vocab, found, wanted)}", _short(found), _short(wanted))
        begun = tokenizer(text[:_BEGUN], split_special_tokens=True)["input_ids"]
        if begun[:1] != [vocab.end_id] or begun[1:] != vocab.encode_ordinary(text[:_BEGUN]):
            raise differs("it does not begin a text from the end token", begun[:3], [vocab.end_id, *wanted[:2]])
        back = tokenizer.decode(wanted)
        if back != text:
            raise differs("its decoder gives another text", repr(back[:40]), repr(text[:40]))
    return len(texts), n_tokens


def compare_chat(tokenizer: Any, vocab: Vocab) -> int:
    """Conversations compared: as a prompt where the user spoke last, and as they stand."""
    talks = evidence.conversations()
    for messages in talks:
        whole, _ = render(vocab, read_messages(messages))
        wanted = {False: [vocab.end_id, *whole[:-1]]}
        if messages[-1]["role"] == "user":
            wanted[True] = [vocab.end_id, *prompt_ids(vocab, messages)]
        for asks, ids in wanted.items():
            found = tokenizer.apply_chat_template(messages, add_generation_prompt=asks, return_dict=False)
            if found != ids:
                raise differs("the chat template renders another conversation", _short(found), _short(ids))
    return len(talks)


def _where(text: str, vocab: Vocab, found: list[int], wanted: list[int]) -> str:
    """The text from the first id that differs."""
    same = next((i for i, (one, other) in enumerate(zip(found, wanted, strict=False)) if one != other), 0)
    return repr(vocab.decode(wanted[same:])[:24]) + " differ" if text else "the empty text differ"


def _short(ids: Any) -> str:
    return f"{len(ids):,} ids {list(ids)[:6]}…"


def differs(what: str, seen: object, wanted: object) -> DataError:
    """What is said of any difference, in the text or in the logits."""
    return DataError(
        f"the export is not the model: {what}; nothing was published",
        seen=seen,
        wanted=wanted,
        fix="report this, with python -m pip list; --no-verify publishes it all the same",
    )
