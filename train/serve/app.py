"""App: the routes. OpenAI's three, and the page.

In:  desks, limits. Out: an application that uvicorn runs.
Holds: whatever is wrong with a request, the answer is JSON with a reason; nothing of a request is kept or logged.
GET / · GET /v1/models · GET /v1/models/RUN@STEP · POST /v1/chat/completions · POST /v1/completions
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from train.engine import Prompt
from train.serve.desk import Desk
from train.serve.limits import Gate, Limits
from train.serve.page import page
from train.serve.refusals import Refusal, from_validation
from train.serve.replies import Reply
from train.serve.requests import ChatRequest, CompletionRequest
from train.serve.streaming import Presence, streamed, whole


def create_app(desks: Sequence[Desk], limits: Limits) -> ASGIApp:
    """Everything that is served."""
    # Its own documentation pages load scripts from elsewhere.
    app = FastAPI(title="Quern", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.desks, app.state.limits = {desk.label: desk for desk in desks}, limits
    app.add_api_route("/", page, methods=["GET"], response_model=None)
    app.add_api_route("/v1/models", _models, methods=["GET"], response_model=None)
    app.add_api_route("/v1/models/{model}", _model, methods=["GET"], response_model=None)
    app.add_api_route("/v1/chat/completions", _chat, methods=["POST"], response_model=None)
    app.add_api_route("/v1/completions", _complete, methods=["POST"], response_model=None)
    for kind, say in _REFUSALS.items():
        app.add_exception_handler(kind, say)
    return Gate(app, limits)


async def _models(request: Request) -> dict[str, Any]:
    return {"object": "list", "data": [_told(desk) for desk in request.app.state.desks.values()]}


async def _model(request: Request, model: str) -> dict[str, Any]:
    return _told(_desk(request, model))


async def _chat(request: Request, asked: ChatRequest) -> Response:
    desk = _desk(request, asked.model)
    prompt = desk.chat([message.plain() for message in asked.messages])
    return await _answer(request, desk, prompt, asked)


async def _complete(request: Request, asked: CompletionRequest) -> Response:
    desk = _desk(request, asked.model)
    return await _answer(request, desk, desk.text(asked.text), asked)


async def _answer(request: Request, desk: Desk, prompt: Prompt, asked: ChatRequest | CompletionRequest) -> Response:
    limits: Limits = request.app.state.limits
    chat, n = isinstance(asked, ChatRequest), asked.n or 1
    sampling = asked.sampling(max_tokens=limits.max_tokens)
    desk.insist_it_fits(prompt, param="messages" if chat else "prompt", may_slide=asked.truncation == "auto")
    presence = Presence(request)
    speech = await desk.ask(prompt, sampling, n=n, stops=asked.stops, gone=presence.gone)
    presence.listen_to(speech)
    reply = Reply(model=desk.label, chat=chat, n=n, n_prompt_tokens=len(prompt.ids))
    if not asked.stream:
        return await whole(speech, reply)
    options = asked.stream_options
    return streamed(
        speech,
        reply,
        usage_at_end=bool(options and options.include_usage),
        usage_always=bool(options and options.continuous_usage_stats),
    )


def _desk(request: Request, model: str) -> Desk:
    desks: Mapping[str, Desk] = request.app.state.desks
    if model not in desks:
        said = f"there is no such model here; there is {', '.join(desks)}"
        raise Refusal(404, said, param="model", code="model_not_found")
    return desks[model]


def _told(desk: Desk) -> dict[str, Any]:
    return {"id": desk.label, "object": "model", "created": 0, "owned_by": "quern", "quern": desk.facts()}


def _say_refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


def _say_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return from_validation([dict(found) for found in error.errors()]).response()


def _say_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: "there is nothing here: GET / has the page, /v1/ the API", 405: "not with this method"}
    return Refusal(error.status_code, said.get(error.status_code, str(error.detail))).response()


def _say_failed(_request: Request, _error: Exception) -> Response:
    return Refusal(500, "the server failed; its terminal says why").response()


_REFUSALS = {
    Refusal: _say_refusal,
    RequestValidationError: _say_invalid,
    HTTPException: _say_http,
    Exception: _say_failed,
}
