"""Serve's deciders: where answers are cut, how often one may ask, what a body must be, where errors point."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from train.serve.cutting import Cutter
from train.serve.limits import Pace
from train.serve.page import page, policy
from train.serve.refusals import Refusal, from_validation
from train.serve.requests import ChatRequest, CompletionRequest

TEXTS = st.text("ab\n", max_size=12)


@given(st.lists(TEXTS, max_size=8), st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3))
def test_pieces_are_cut_where_the_whole_text_would_be(pieces: list[str], stops: list[str]) -> None:
    cutter, shown = Cutter(stops), ""
    text = "".join(pieces)
    places = [text.find(stop) for stop in stops if stop in text]
    for piece in pieces:
        shown += cutter.feed(piece)
        assert text.startswith(shown)
    shown += cutter.rest()
    assert cutter.cut == bool(places)
    # A stop that is whole first ends the answer, should another have begun before it.
    assert shown == text if not places else len(shown) >= min(places)
    assert not any(stop in shown for stop in stops)


def test_only_what_may_become_a_stop_is_held_back() -> None:
    cutter = Cutter(["\nQ:"])
    assert [cutter.feed(piece) for piece in ("four.\n", "Q", "uite. \nQ:", "never")] == ["four.", "", "\nQuite. ", ""]
    assert cutter.cut


def test_a_client_may_ask_as_often_as_its_pace_and_others_are_not_held_up() -> None:
    pace = Pace(per_minute=60)
    assert [pace.wait_s("a", 0.0) for _ in range(60)] == [0.0] * 60
    assert pace.wait_s("a", 0.0) == pytest.approx(1.0)
    assert pace.wait_s("b", 0.0) == 0.0
    assert pace.wait_s("a", 0.5) == pytest.approx(0.5)  # being refused costs nothing
    assert pace.wait_s("a", 1.0) == 0.0


def test_clients_who_have_rested_are_forgotten_before_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.serve.limits._MOST_CLIENTS", 100)
    pace = Pace(per_minute=60)
    for client in range(1_000):
        assert pace.wait_s(str(client), now=float(client)) == 0.0
    assert len(pace._spent) <= 101


def asked(**fields: object) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": True}, "top_p"),
        ({"n": 5}, "n"),
        ({"n": 1.5}, "n"),
        ({"seed": -1}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens"),
        ({"stop": ""}, "stop.0"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [7]}, "stop.0"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": 0}, "logprobs"),  # which of the old API asks for one
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"tools": [{}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"wizardry": 1}, "wizardry"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages.0.content.0.text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type"),
    ],
)
def test_a_body_that_cannot_be_answered_is_refused_by_the_name_of_its_field(
    fields: dict[str, object], param: str
) -> None:
    with pytest.raises(ValidationError) as invalid:
        asked(**fields)
    error = from_validation([dict(found) for found in invalid.value.errors()]).body["error"]
    assert error["param"] == param
    assert param in error["message"]
    assert error["message"].encode()  # nothing of the value is in it


def test_what_changes_nothing_may_be_said() -> None:
    harmless = {
        "logprobs": None,
        "presence_penalty": 0.0,
        "tools": [],
        "user": "me",
        "response_format": {"type": "text"},
    }
    assert asked(**harmless).sampling(max_tokens=9).max_tokens == 9


def test_content_may_be_parts_a_developer_is_a_system_and_answers_may_be_handed_back() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    given_back = {"role": "assistant", "content": "yes", "refusal": None, "tool_calls": None}
    request = asked(messages=[{"role": "developer", "content": parts}, given_back])
    assert [message.plain() for message in request.messages] == [
        {"role": "system", "content": "ab"},
        {"role": "assistant", "content": "yes"},
    ]


def test_settings_become_a_sampling_and_more_tokens_than_the_server_gives_are_refused() -> None:
    request = asked(temperature=0, top_p=0.5, top_k=None, seed=7, max_completion_tokens=12)
    sampling = request.sampling(max_tokens=100)
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0, 0.5, None)
    assert (sampling.seed, sampling.max_tokens) == (7, 12)
    with pytest.raises(Refusal, match="12 asked, this server gives at most 11"):
        request.sampling(max_tokens=11)


def test_without_a_seed_every_answer_has_its_own() -> None:
    assert len({asked().sampling(max_tokens=9).seed for _ in range(20)}) == 20


def test_a_completion_goes_on_from_one_text() -> None:
    for prompt in ("the", ["the"]):
        assert CompletionRequest.model_validate({"model": "m", "prompt": prompt}).text == "the"
    with pytest.raises(ValidationError):
        CompletionRequest.model_validate({"model": "m", "prompt": [[1, 2]]})


def test_the_page_loads_nothing_and_its_policy_allows_its_own_script_alone() -> None:
    html = bytes(page().body).decode()
    assert not re.search(r"(?:src|href)=\"(?!data:)|url\(|@import|innerHTML|insertAdjacentHTML|document\.write", html)
    assert re.search(r"script-src 'sha256-[\w+/]{43}='", policy(html))
    assert policy(html) != policy(html.replace("</script>", "//</script>"))
    assert "unsafe" not in policy(html)
