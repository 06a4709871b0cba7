"""Requests: what may be asked, field by field, in the words of OpenAI's API.

In:  a JSON body. Out: a `ChatRequest` or a `CompletionRequest`; `sampling(…)` of it.
Holds: nothing is ignored that would change the answer: what this server cannot do is refused by its name;
       types are strict ("0.5" is no number), numbers finite.
{"model": "demo@586", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0}
"""

import secrets
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from train.sampling import Sampling
from train.serve.refusals import Refusal

MAX_CHOICES, _MAX_STOPS, _SEEDS = 4, 4, 2**63 - 1
_STANDARD = Sampling()
# Asked as one of these values a parameter changes nothing; as anything else it would, and is refused.
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "logprobs": (None, False),
    "top_logprobs": (None,),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0, 0.0),
    "frequency_penalty": (None, 0, 0.0),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "parallel_tool_calls": (None, True, False),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "reasoning_effort": (None,),
    "best_of": (None, 1),
    "echo": (None, False),
    "suffix": (None, ""),
}
# About the asker, not about the answer.
_ABOUT_THE_ASKER = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}


def _whole(text: str) -> str:
    """JSON can spell half a character (a lone surrogate); no tokenizer can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is no character") from None
    return text


_Text = Annotated[str, AfterValidator(_whole)]
_StopText = Annotated[_Text, Field(min_length=1, max_length=200)]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_parts(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _TextPart(_Strict):
    type: Literal["text"]
    text: _Text


class Message(_Strict):
    """One turn. A developer's message is a system message."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[_TextPart], BeforeValidator(_as_parts)]

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        """OpenAI's own answers, handed back, carry fields that are null: they say nothing."""
        return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value

    def plain(self) -> dict[str, str]:
        """As `dataprep.chat` reads it; parts of a text are one text."""
        said = "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": said}


class _StreamOptions(_Strict):
    include_usage: bool = False
    continuous_usage_stats: bool = False  # usage in every chunk, by the name that vLLM gave it
    include_obfuscation: bool = False


class _Asked(_Strict):
    model: _Text
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    n: int | None = Field(default=1, ge=1, le=MAX_CHOICES)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=_STANDARD.top_k, ge=1)  # null: no limit
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    seed: int | None = Field(default=None, ge=0, le=_SEEDS - MAX_CHOICES)
    truncation: Literal["auto", "disabled"] | None = "disabled"  # auto: the oldest goes out of sight
    stop: Annotated[list[_StopText] | None, BeforeValidator(_as_list), Field(max_length=_MAX_STOPS)] = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_cannot_be_done(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        for name, harmless in _WITHOUT_EFFECT.items():
            if name in body and not _is_one_of(body[name], harmless):
                said = "this server cannot do that: leave it out"
                raise PydanticCustomError("unsupported", said, {"param": name})  # pyright: ignore[reportArgumentType]
        known = _WITHOUT_EFFECT.keys() | _ABOUT_THE_ASKER
        return {name: value for name, value in body.items() if name not in known}

    @property
    def stops(self) -> list[str]:
        """The texts that end an answer and are no part of it."""
        return self.stop or []

    @property
    def limit(self) -> int | None:
        """The most tokens that were asked for."""
        return self.max_tokens

    def sampling(self, *, max_tokens: int) -> Sampling:
        """How to draw, an unnamed seed drawn now. Raises Refusal for more than `max_tokens`."""
        if self.limit is not None and self.limit > max_tokens:
            said = f"max_tokens: {self.limit:,} asked, this server gives at most {max_tokens:,}"
            raise Refusal(400, said, param="max_tokens")
        named = {
            name: value
            for name in ("temperature", "top_p", "min_p", "repetition_penalty")
            if (value := getattr(self, name)) is not None
        }
        return Sampling(
            **named,
            top_k=self.top_k,
            seed=secrets.randbits(32) if self.seed is None else self.seed,
            max_tokens=self.limit or min(_STANDARD.max_tokens, max_tokens),
        )


class ChatRequest(_Asked):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_limit(self) -> "ChatRequest":
        if None not in {self.max_tokens, self.max_completion_tokens} and self.max_tokens != self.max_completion_tokens:
            raise PydanticCustomError("two_limits", "it differs from max_tokens", {"param": "max_completion_tokens"})
        return self

    @property
    def limit(self) -> int | None:
        """The most tokens that were asked for, by its new name or its old one."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(_Asked):
    """POST /v1/completions."""

    prompt: Annotated[list[_Text], BeforeValidator(_as_list), Field(min_length=1, max_length=1)] = [""]

    @property
    def text(self) -> str:
        """What to go on from."""
        return self.prompt[0]


def _is_one_of(value: Any, others: tuple[Any, ...]) -> bool:
    """Whether it is there, with its type: a count of 0 is not False."""
    return any(type(value) is type(other) and value == other for other in others)
