"""A run's last word: what its model goes on with after one prompt, and how a person reads it.

In:  a model, a vocabulary, a prompt: text to go on from, or what a user says. Out: the completion's text.
Holds: same weights, prompt and seed give the same text; `train.engine` says how it is drawn. A prompt that leaves an
       answer no room is said to be one: no run is lost for it.
    plain  end the mill                                              → grinds …  up to the end token
    chat   end user_start Hi? user_end assistant_start               → Hello.    up to assistant_end or the end token
"""

from dataprep.errors import UsageError
from dataprep.vocab import Vocab
from train.engine import Engine, chat_prompt, text_prompt
from train.model import GPT
from train.sampling import Sampling


def complete(model: GPT, vocab: Vocab, prompt: str, *, seed: int, chat: bool = False, max_tokens: int = 64) -> str:
    """Up to `max_tokens` tokens after `prompt`; ends early where the model ends the document or its turn."""
    asked = chat_prompt(vocab, [{"role": "user", "content": prompt}]) if chat else text_prompt(vocab, prompt)
    try:
        return Engine(model, vocab).generate([asked], Sampling(seed=seed, max_tokens=max_tokens))[0].text
    except UsageError as error:
        return f"({error.what}: {error.seen})"


def shown(prompt: str, completion: str, *, chat: bool) -> str:
    """A sample as a person reads it."""
    return f"user: {prompt}\nassistant: {completion}" if chat else f"sample: {prompt}|{completion}"
