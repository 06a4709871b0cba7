"""Verify: the exported folder, loaded as a stranger would load it, against the model it was made from.

In:  the folder, the opened run, its dtype. Out: `Verified`, the figures; raises DataError for any difference.
Holds: transformers loads it with none of our code and without a network; the same logits up to rounding, the same
       greedy tokens, the same ids of ordinary and hostile text, the same conversations.
Cost: 64 forward passes of ours and of theirs, in float32 on the CPU.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dataprep.errors import EnvironmentProblem
from dataprep.vocab import Vocab
from train.cache import Cache
from train.export import evidence
from train.export.same_text import compare_chat, compare_ids, differs
from train.export.shape import ANSWER_END
from train.export.tensors import round_weights
from train.model import GPT
from train.weights import Opened

_GREEDY_STEPS = 64
_PROMPT_TOKENS = 8
_LONGEST_TRIED = 512  # tokens of one row of random ids: attention far back, and every special as an input
_TOLERANCE = 1e-3  # of the largest logit; two fp32 programs differ by 1e-6 to 1e-4, a swapped weight by 1e-1 and more


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was compared, and what it gave."""

    logits: int
    max_logit_difference: float
    tolerance: float
    rounding: float | None  # what the dtype alone moved the logits by; None where nothing was rounded
    greedy_steps: int
    greedy_matched: int
    texts: int
    text_tokens: int
    conversations: int


def require_transformers() -> None:
    """Raise EnvironmentProblem where transformers is not installed."""
    if importlib.util.find_spec("transformers") is None:
        raise EnvironmentProblem(
            "an export is verified with transformers, which is not installed",
            seen="no module transformers",
            wanted="transformers, which Quern does not install by itself",
            fix="python -m pip install 'quern[export]'   # or --no-verify",
        )


@torch.inference_mode()
def verify(folder: Path, opened: Opened, *, dtype: torch.dtype, talked: bool) -> Verified:
    """Compare everything. `opened.model` is rounded to `dtype`, as the file's weights are."""
    model, vocab = opened.model, opened.vocab
    tokenizer, theirs = _load(folder)
    _compare_stops(theirs, vocab)
    texts, text_tokens = compare_ids(tokenizer, vocab)
    n_conversations = compare_chat(tokenizer, vocab) if talked else 0
    tried = _rows(vocab, model.cos_TE.shape[0])
    exact = [_ours(model, ids, vocab) for ids in tried]
    round_weights(model, dtype)
    rounded = [_ours(model, ids, vocab) for ids in tried]
    greedy, greedy_logits = _greedy(model, vocab, tried[0])
    n_prompt = len(tried[0])
    ours = torch.cat([*(logits_V[None] for logits_V in rounded), greedy_logits])
    their_rows = [_theirs(theirs, ids)[-1:] for ids in tried]
    their_logits = torch.cat([*their_rows, _theirs(theirs, [*tried[0], *greedy[:-1]])[n_prompt - 1 :]])
    difference, tolerance = _compare_logits(ours, their_logits)
    return Verified(
        logits=ours.numel(),
        max_logit_difference=difference,
        tolerance=tolerance,
        rounding=_largest(torch.stack(exact) - torch.stack(rounded)) if dtype != torch.float32 else None,
        greedy_steps=len(greedy),
        greedy_matched=_compare_greedy(theirs, tried[0], greedy, greedy_logits, tolerance),
        texts=texts,
        text_tokens=text_tokens,
        conversations=n_conversations,
    )


def _load(folder: Path) -> tuple[Any, Any]:
    """The tokenizer and the model in float32, by the generic classes. Every weight must be there, and no other."""
    import transformers  # pyright: ignore[reportMissingImports] -- an extra

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    alone = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **alone)
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, **alone
        )
        model, told = loaded
    except (ValueError, KeyError, OSError, RuntimeError, TypeError, AttributeError) as error:
        raise differs("transformers does not load it", _said(error), "a folder that loads") from error
    wrong = {kind: sorted(map(str, names)) for kind, names in _plain(told).items() if names}
    if wrong:
        raise differs("its weights are not those of Qwen3ForCausalLM", wrong, "every weight, and no other")
    return tokenizer, model.eval()


def _compare_logits(ours_NV: Tensor, theirs_NV: Tensor) -> tuple[float, float]:
    if ours_NV.shape != theirs_NV.shape:
        raise differs("its logits have another shape", tuple(theirs_NV.shape), tuple(ours_NV.shape))
    difference, tolerance = _largest(ours_NV - theirs_NV), _TOLERANCE * max(1.0, _largest(ours_NV))
    if not difference <= tolerance:  # NaN is no agreement
        raise differs("its logits are others", f"a difference of {difference:.3g}", f"at most {tolerance:.3g}")
    return difference, tolerance


def _compare_stops(theirs: Any, vocab: Vocab) -> None:
    stops, wanted = theirs.generation_config.eos_token_id, [vocab.end_id, vocab.specials[ANSWER_END]]
    if not isinstance(stops, list) or sorted(stops) != wanted:
        raise differs("it stops elsewhere", stops, wanted)


def _compare_greedy(theirs: Any, ids: list[int], greedy: list[int], logits_NV: Tensor, tolerance: float) -> int:
    """How many greedy tokens are the same. Where two logits are as near as rounding, either may come first."""
    theirs.generation_config.eos_token_id = None  # so that all steps are taken
    settings = {"max_new_tokens": len(greedy), "do_sample": False, "temperature": None, "top_k": None}
    inputs_BT = torch.tensor([ids])
    said = theirs.generate(inputs_BT, attention_mask=torch.ones_like(inputs_BT), **settings)[0, len(ids) :].tolist()
    for step, (found, wanted) in enumerate(zip(said, greedy, strict=True)):
        if found != wanted and logits_NV[step, wanted] - logits_NV[step, found] <= tolerance:
            return step  # a tie: what follows is another text
        if found != wanted:
            raise differs(f"its greedy token {step + 1} is another", found, wanted)
    return len(greedy)


def _rows(vocab: Vocab, context: int) -> list[list[int]]:
    """Rows of ids to try: a short prompt, the ordinary texts, and random ids as far as the context goes."""
    texts = [[vocab.end_id, *vocab.encode_ordinary(text)][:context] for text in evidence.ORDINARY]
    n_random = min(context, _LONGEST_TRIED)
    drawn = torch.randint(vocab.vocab_size, (n_random,), generator=torch.Generator().manual_seed(1))
    return [texts[0][:_PROMPT_TOKENS], *texts, drawn.tolist()]


def _ours(model: GPT, ids: list[int], vocab: Vocab) -> Tensor:
    """Logits_V after `ids`, of the ids there are: the padding's are cut."""
    return model.next_logits(torch.tensor([ids], device=model.embedding.weight.device))[0, : vocab.vocab_size].cpu()


def _theirs(model: Any, ids: list[int]) -> Tensor:
    """Logits_TV after every one of `ids`."""
    return model(torch.tensor([ids])).logits[0].float()


def _greedy(model: GPT, vocab: Vocab, ids: list[int]) -> tuple[list[int], Tensor]:
    """The most likely tokens one after the other, no stop heeded, and the logits_NV they were chosen by."""
    n_steps = min(_GREEDY_STEPS, model.cos_TE.shape[0] - len(ids))
    table = model.embedding.weight
    cache = Cache.empty(model.shape, n_rows=1, n_positions=len(ids) + n_steps, like=table)
    chosen, logits, new = [], [], ids
    for _ in range(n_steps):
        logits.append(model.cached_logits(torch.tensor([new], device=table.device), cache)[0, : vocab.vocab_size].cpu())
        chosen.append(int(logits[-1].argmax()))
        new = chosen[-1:]
    return chosen, torch.stack(logits)


def _plain(told: Any) -> Mapping[str, Any]:
    return told if isinstance(told, Mapping) else vars(told)


def _largest(x: Tensor) -> float:
    return float(x.abs().max())


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
