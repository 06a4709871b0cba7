"""A talk: what was said so far, the commands, and an answer that streams.

In:  an engine, how words are chosen, messages of a person. Out: printed answers, each with its count and speed.
Holds: Ctrl-C ends an answer and not the talk, and what was said until then stays said; a question that got no answer
       is forgotten, for no conversation has an empty turn; the n-th answer is drawn with the seed plus n.
"""

import time
from dataclasses import replace

from dataprep.errors import UsageError
from dataprep.vocab import Vocab
from train.engine import Engine, Prompt, chat_prompt, text_prompt
from train.sampling import Sampling
from train.terminal import dim, read_message, safe

HELP = """\
/reset         forget what was said
/system TEXT   what the model is told before everything else; without TEXT, nothing
/temp X        temperature: 0 always says the likeliest word
/help          this page
/quit          leave; so does Ctrl-D. Ctrl-C stops an answer
a line that ends in \\ goes on in the next; lines between \"\"\" and \"\"\" are one message
a message that begins with / is sent with a space before it"""
_N_SEEDS = 2**63


class Talk:
    """One conversation; or, with a model that knows none, one completion after another."""

    def __init__(self, engine: Engine, vocab: Vocab, sampling: Sampling, *, is_chat: bool, system: str | None) -> None:
        self._engine, self._vocab, self._sampling = engine, vocab, sampling
        self._is_chat, self._system = is_chat, system
        self._turns: list[dict[str, str]] = []
        self._n_answers = 0

    def prompt(self, text: str) -> Prompt:
        """What the model is asked after all that was said."""
        if not self._is_chat:
            return text_prompt(self._vocab, text)
        told = [{"role": "system", "content": self._system}] if self._system else []
        return chat_prompt(self._vocab, [*told, *self._turns, {"role": "user", "content": text}])

    def go_on(self) -> bool:
        """Read one message and answer it, or do what it commands; False to leave."""
        try:
            message = read_message(input, "> ")
            if message.startswith("/"):
                command, *rest = message.split(maxsplit=1)
                return self._obey(command, "".join(rest).strip())
            if message.strip():
                self._answer(message)
        except EOFError:
            print()
            return False
        except KeyboardInterrupt:
            print(dim("\n(Ctrl-D or /quit leaves)"))
        except UsageError as error:
            print(safe(f"{error.what}: {error.seen}, wanted: {error.wanted}"))
        return True

    def _answer(self, text: str) -> None:
        sampling = replace(self._sampling, seed=(self._sampling.seed + self._n_answers) % _N_SEEDS)
        stream = self._engine.stream(self.prompt(text), sampling)
        began, stopped = time.monotonic(), False
        try:
            for piece in stream:
                print(safe(piece), end="", flush=True)
        except KeyboardInterrupt:
            stopped = True
        answer, seconds = stream.answer, time.monotonic() - began
        self._n_answers += 1
        if answer.text and self._is_chat:
            self._turns += [{"role": "user", "content": text}, {"role": "assistant", "content": answer.text}]
        remark = f"{answer.n_tokens:,} tokens · {answer.n_tokens / seconds:,.1f} tok/s"
        cut = " · stopped" if stopped else " · cut at --max-tokens" if answer.finish == "length" else ""
        print(dim(f"\n{remark}{cut}{'' if answer.text else ' · nothing was said'}"))

    def _obey(self, command: str, value: str) -> bool:
        if command == "/reset":
            self._turns.clear()
            print(dim("(nothing was said yet)"))
        elif command == "/system":
            self._system = value or None
            print(dim(f"(system: {safe(value)})" if value else "(no system message)"))
        elif command == "/temp":
            self._sampling = replace(self._sampling, temperature=_temperature(value))
            print(dim(f"(temperature {self._sampling.temperature:g})"))
        elif command == "/quit":
            return False
        else:
            print(HELP if command == "/help" else f"no such command: {safe(command)}\n{HELP}")
        return True


def _temperature(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            "temperature is a number", seen=text or "nothing", wanted="/temp 0.8", fix="/temp 0.8"
        ) from None
