"""Sampling: what the model goes on with after a prompt. Plain: every token runs the whole row again.

In:  a model, a vocabulary, a prompt. Out: the completion's text.
Holds: same weights, prompt and seed give the same text; ids that are no text are never drawn.
"""

import torch

from dataprep.vocab import Vocab
from train.model import GPT

_TEMPERATURE = 0.8
_TOP_K = 50


@torch.inference_mode()
def complete(model: GPT, vocab: Vocab, prompt: str, *, seed: int, max_tokens: int = 64) -> str:
    """Up to `max_tokens` tokens after `prompt`; ends early where the model ends the document."""
    device, context = model.embedding.weight.device, model.cos_TE.shape[0]
    drawing = torch.Generator().manual_seed(seed)
    ids = [vocab.end_id, *vocab.encode_ordinary(prompt)]  # a document begins from the end token
    n_given = len(ids)
    while len(ids) < n_given + max_tokens:
        inputs_BT = torch.tensor([ids[-context:]], device=device)
        logits_V = model.next_logits(inputs_BT)[0, : vocab.end_id + 1].cpu()
        best, chosen = logits_V.topk(min(_TOP_K, len(logits_V)))
        drawn = torch.multinomial((best / _TEMPERATURE).softmax(0), 1, generator=drawing)
        token = int(chosen[drawn])
        if token == vocab.end_id:
            break
        ids.append(token)
    return vocab.decode(ids[n_given:])
