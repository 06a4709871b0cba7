"""Refusals: what an asker is told instead of an answer, in the shape that OpenAI's clients read.

In:  a status, a message, the parameter at fault. Out: JSON under "error", and Retry-After where waiting helps.
Holds: a message names what was asked and what would do; it never repeats a key, and never a whole request.
    400 {"error": {"message": "…", "type": "invalid_request_error", "param": "temperature", "code": null}}
"""

from typing import Any

from starlette.responses import JSONResponse

from dataprep.errors import QuernError

_KINDS = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}


class Refusal(Exception):  # noqa: N818 -- it is an answer, not a fault
    """An answer that is a status and a reason."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s
        kind = _KINDS.get(status, "invalid_request_error")
        self.body: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    def response(self) -> JSONResponse:
        """The whole answer."""
        headers = {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}
        if self.status == 401:  # noqa: PLR2004 -- the one status that must say how to come again
            headers["www-authenticate"] = "Bearer"
        return JSONResponse(self.body, status_code=self.status, headers=headers)


def from_error(error: QuernError, *, param: str, code: str | None = None) -> Refusal:
    """What a mistake of the asker is called here; the fix for a command line is left out."""
    return Refusal(400, f"{error.what}: seen {error.seen}, wanted {error.wanted}", param=param, code=code)


def from_validation(errors: list[dict[str, Any]]) -> Refusal:
    """The first thing that is wrong with a body, as pydantic found it, without the value itself."""
    first = errors[0]
    where = [str(part) for part in first["loc"] if part != "body"]
    param = str(first.get("ctx", {}).get("param") or ".".join(where)) or None
    if first["type"] == "json_invalid":
        return Refusal(400, "the body is not JSON", code="invalid_json")
    if first["type"] == "extra_forbidden":
        return Refusal(400, f"unknown parameter: {param}", param=param, code="unknown_parameter")
    said = str(first["msg"]).removeprefix("Value error, ")
    return Refusal(400, f"{param}: {said}" if param else said, param=param)
