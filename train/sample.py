"""Sampling: what the model goes on with after a prompt. Plain: every token runs the whole row again.

In:  a model, a vocabulary, a prompt: text to go on from, or what a user says. Out: the completion's text.
Holds: same weights, prompt and seed give the same text; ids that are no text are never drawn.
    plain  end the mill                                              → grinds …  up to the end token
    chat   end user_start Hi? user_end assistant_start               → Hello.    up to assistant_end or the end token
"""

import torch

from dataprep.chat import prompt_ids
from dataprep.vocab import Vocab
from train.model import GPT

_TEMPERATURE = 0.8
_TOP_K = 50


@torch.inference_mode()
def complete(model: GPT, vocab: Vocab, prompt: str, *, seed: int, chat: bool = False, max_tokens: int = 64) -> str:
    """Up to `max_tokens` tokens after `prompt`; ends early where the model ends the document or its turn."""
    device, context = model.embedding.weight.device, model.cos_TE.shape[0]
    drawing = torch.Generator().manual_seed(seed)
    asked = prompt_ids(vocab, [{"role": "user", "content": prompt}]) if chat else vocab.encode_ordinary(prompt)
    ids = [vocab.end_id, *asked]  # a document begins from the end token
    stops = [vocab.end_id, vocab.specials["<|assistant_end|>"]] if chat else [vocab.end_id]
    never = [i for i in range(vocab.end_id, max(stops)) if i not in stops]
    n_given = len(ids)
    while len(ids) < n_given + max_tokens:
        inputs_BT = torch.tensor([ids[-context:]], device=device)
        logits_V = model.next_logits(inputs_BT)[0, : max(stops) + 1].cpu()
        logits_V[never] = float("-inf")
        best, chosen = logits_V.topk(min(_TOP_K, len(logits_V)))
        drawn = torch.multinomial((best / _TEMPERATURE).softmax(0), 1, generator=drawing)
        token = int(chosen[drawn])
        if token in stops:
            break
        ids.append(token)
    return vocab.decode(ids[n_given:])


def shown(prompt: str, completion: str, *, chat: bool) -> str:
    """A sample as a person reads it."""
    return f"user: {prompt}\nassistant: {completion}" if chat else f"sample: {prompt}|{completion}"
