"""Card: README.md of an export, a model card as the Hub reads it.

In:  the opened run, its `Provenance`. Out: Markdown under a YAML header.
Holds: figures are the ledger's; no path, machine, person or clock time is told, so the same weights give the same card.
       It claims no licence: whose model it is and what its sources allow is for people to settle.
"""

import json
from collections.abc import Sequence
from typing import Any

from train.export.provenance import Provenance
from train.weights import Opened

_USE_CHAT = """\
messages = [{"role": "user", "content": "Hi"}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
"""
_USE_TEXT = """\
ids = tokenizer("The mill", return_tensors="pt", return_token_type_ids=False)
"""
_USE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this file lies, or OWNER/NAME on the Hub
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
{ids}answer = model.generate(**ids, max_new_tokens=64)[0, ids["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
"""
_RULES = """\
- Every document begins from `<|endoftext|>`: the tokenizer puts it in front (`add_special_tokens=False` leaves it out).
- Text that spells a special is ordinary text in training. `tokenizer(text, split_special_tokens=True)` keeps it so;
  the chat template refuses it, for in one string nothing could tell it from the special.
- Generation stops at `<|assistant_end|>` and at `<|endoftext|>`.
- Input ids are below {vocab_size:,}, one embedding row each; the longest context trained is {seq_len:,} tokens.
"""
_TALKED = """\
- The chat template takes a content that is a text, or a list of `{"type": "text" | "python" | "output", "text": …}`;
  roles alternate after one optional system message. The end token after a whole conversation is not rendered.
"""
_NOT_TALKED = "- There is no chat template: these weights have seen no conversation.\n"


def model_card(opened: Opened, seen: Provenance, *, dtype: str, talked: bool) -> str:
    """The whole file."""
    rules = _RULES.format(vocab_size=opened.vocab.vocab_size, seq_len=opened.seq_len)
    sections = [
        _header(seen),
        _about(opened, seen, dtype=dtype),
        f"## Use\n\n```python\n{_USE.format(ids=_USE_CHAT if talked else _USE_TEXT)}```\n",
        rules + (_TALKED if talked else _NOT_TALKED),
        "## Lineage\n\nOldest first; rows and tokens that are in the weights.\n\n"
        + _table(
            ("run", "stage", "recipe", "rows", "tokens"),
            [(each.run, each.stage, each.recipe, each.rows, each.tokens) for each in seen.stages],
        ),
        "## Tokens per source\n\n"
        + _table(
            ("source", "tokens", "licence", "data set"),
            [(each.source, each.tokens, each.licence, each.repo or "–") for each in seen.sources],
        )
        + "\nWhat the sources' licences ask of whoever passes these weights on is not settled by this file.\n",
        *(f"Note: {note}\n" for note in seen.notes),
        "## Evaluation\n\n" + _evaluation(seen),
        "## Provenance\n\n"
        + _table(
            ("what", "sha256"),
            [
                ("weights as trained", opened.checkpoint.weights_sha256),
                ("recipe", opened.start["recipe_sha256"]),
                ("tokenizer (ranks, split, specials)", opened.vocab.fingerprint),
            ],
        ),
    ]
    return "\n".join(sections)


def _about(opened: Opened, seen: Provenance, *, dtype: str) -> str:
    n_parameters = sum(weight.numel() for weight in opened.model.parameters())
    return (
        f"# {opened.label}\n\n"
        f"A Qwen3-shaped language model: {n_parameters:,} parameters as trained, stored in {dtype}. Its last recipe is"
        f" `{opened.recipe}`; {seen.tokens:,} tokens are in its weights. Made with Quern.\n"
    )


def _header(seen: Provenance) -> str:
    """YAML: a JSON text is one too, so nothing that a name holds can break it."""
    repos = sorted({each.repo for each in seen.sources if each.repo})
    fields: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["quern", "qwen3"],
        **({"datasets": repos} if repos else {}),
    }
    return "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items()) + "---\n"


def _evaluation(seen: Provenance) -> str:
    if not seen.evals:
        return "None was made of these weights.\n"
    lines = [(each["suite"], each["task"], each["n"], _figure(each["value"]), each["stderr"]) for each in seen.evals]
    return _table(("suite", "task", "n", "value", "standard error"), [(*line[:4], _figure(line[4])) for line in lines])


def _table(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    if not lines:
        return "None is known.\n"
    rows = [header, ["---"] * len(header), *([_cell(value) for value in line] for line in lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(value: Any) -> str:
    """One cell: separators in whole numbers, nothing that would end it early."""
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return " ".join(text.split()).replace("|", "\\|")


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
