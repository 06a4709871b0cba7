"""Serving: OpenAI's own client talks to trained runs; strangers, crowds and nonsense are turned away in its words."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from served import Scripted, desk_of, serving, train_two, until
from training import REPOSITORY, records, settle

from dataprep.errors import DataError, EnvironmentProblem, UsageError
from train.serve.__main__ import main
from train.serve.desk import Desk

HI: Any = [{"role": "user", "content": "mill 1?"}]


@pytest.fixture(scope="module")
def root(encoded_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_two(encoded_root, tmp_path_factory.mktemp("served") / "root")


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    with serving(desk_of(root, "chat"), desk_of(root, "base"), max_tokens=400, body_bytes=20_000) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with client_of(address) as client:
        yield client


@pytest.fixture
def desk(root: Path) -> Desk:
    return desk_of(root, "chat", n_waiting=1)


def client_of(address: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0)


def post(address: str, body: bytes, path: str = "/v1/chat/completions", **headers: str) -> tuple[int, dict, dict]:
    """Status, JSON and headers of a request as nobody's client would make it."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    named = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", path, body, named)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response.status, json.loads(answer), {name.lower(): value for name, value in response.getheaders()}


def chat_body(**fields: object) -> bytes:
    return json.dumps({"model": "chat@10", "messages": HI, **fields}).encode()


def test_the_models_are_listed_with_what_they_can(root: Path, client: openai.OpenAI) -> None:
    models = {model.id: model.model_extra for model in client.models.list()}
    assert list(models) == ["chat@10", "base@10"]
    facts: Any = models["chat@10"]
    assert facts["quern"]["chat"] is True
    trained = records(root, "chat", "checkpoint")[-1]["tokens_done"]
    assert (facts["quern"]["context"], facts["quern"]["tokens"]) == (256, trained)
    assert client.models.retrieve("base@10").model_extra["quern"]["chat"] is False  # pyright: ignore[reportOptionalSubscript]


@pytest.mark.parametrize("temperature", [0, 0.9])
def test_a_seed_gives_one_answer_whole_or_streamed(client: openai.OpenAI, temperature: float) -> None:
    asked: Any = {"model": "chat@10", "messages": HI, "max_tokens": 24, "seed": 5, "temperature": temperature}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_a_text_is_gone_on_with_and_counted(client: openai.OpenAI) -> None:
    done = client.completions.create(model="base@10", prompt="the mill", max_tokens=5, temperature=0)
    assert done.usage
    assert (done.choices[0].finish_reason, done.usage.completion_tokens) == ("length", 5)
    assert done.usage.prompt_tokens == 1 + len(b"the mill")  # the end token, and bytes
    assert done.usage.total_tokens == done.usage.prompt_tokens + 5
    chunks = client.completions.create(model="base@10", prompt="the mill", max_tokens=5, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == done.choices[0].text


def test_choices_differ_and_each_is_the_one_of_its_own_seed(client: openai.OpenAI) -> None:
    asked: Any = {"model": "base@10", "prompt": "the", "max_tokens": 12, "temperature": 1.5}
    four = client.completions.create(**asked, n=4, seed=9)
    assert [choice.index for choice in four.choices] == [0, 1, 2, 3]
    texts = [choice.text for choice in four.choices]
    assert len(set(texts)) == 4
    assert client.completions.create(**asked, seed=11).choices[0].text == texts[2]
    assert four.usage
    assert four.usage.completion_tokens <= 48


def test_an_answer_ends_at_a_stop_text_or_at_its_limit(root: Path) -> None:
    desk = desk_of(root, "chat")
    script = Scripted(desk, ["one ", "two", ".\n", "Q", ": three"])
    with serving(desk) as address, client_of(address) as client:

        def ask(**fields: Any) -> Any:
            return client.chat.completions.create(model="chat@10", messages=HI, **fields)

        ended, cut = ask(), ask(stop=[".\nQ:", "never"])
        assert (ended.choices[0].message.content, ended.choices[0].finish_reason) == ("one two.\nQ: three", "stop")
        assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("one two", "stop")
        assert cut.usage.completion_tokens == 5  # the model made them, though the last are not shown
        for name in ("max_tokens", "max_completion_tokens"):
            short = ask(**{name: 2}, stop="\n")
            assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("one two", "length")
        pieces = [chunk.choices[0].delta.content for chunk in ask(stop=".\nQ:", stream=True)]
        assert [piece for piece in pieces if piece] == ["one ", "two"]
    assert script.samplings[0].max_tokens == 256


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "nobody@1"}, 404, "model"),
        ({"model": "base@10"}, 400, "model"),  # it has learned no conversations
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, 400, "messages"),
        ({"messages": [*HI, *HI]}, 400, "messages"),
        ({"messages": [*HI, {"role": "system", "content": "late"}]}, 400, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 300}]}, 400, "messages"),
        ({"max_tokens": 401}, 400, "max_tokens"),
        ({"temperature": float("nan")}, 400, "temperature"),
        ({"logprobs": True}, 400, "logprobs"),
    ],
)
def test_what_cannot_be_answered_is_said_in_openais_words(
    address: str, fields: dict[str, object], status: int, param: str
) -> None:
    seen, answer, headers = post(address, chat_body(**fields))
    assert (seen, answer["error"]["param"]) == (status, param)
    assert answer["error"]["type"] == "invalid_request_error"
    assert len(answer["error"]["message"]) < 300
    assert headers["content-type"] == "application/json"


def test_a_long_talk_is_refused_unless_its_oldest_turns_may_go(client: openai.OpenAI) -> None:
    talk = [*HI, {"role": "assistant", "content": "It grinds the text."}] * 12 + HI
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="chat@10", messages=talk, max_tokens=4)
    assert refused.value.code == "context_length_exceeded"
    done = client.chat.completions.create(
        model="chat@10", messages=talk, max_tokens=4, temperature=0, extra_body={"truncation": "auto"}
    )
    assert done.usage
    assert done.usage.prompt_tokens > 256


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"", 400), (b"[]", 400), (b"\xff", 400), (b"[" * 9_000, 400), (b" " * 20_001, 413)],
)
def test_a_body_that_is_no_request_is_refused(address: str, body: bytes, status: int) -> None:
    seen, answer, _ = post(address, body)
    assert seen == status
    assert answer["error"]["message"]


def test_a_body_whose_size_is_not_told_is_read_no_further_than_the_limit(address: str) -> None:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    pieces = (b" " * 1_000 for _ in range(50))
    connection.request("POST", "/v1/completions", pieces, {"content-type": "application/json"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_pages_of_other_sites_and_names_that_point_here_are_turned_away(address: str) -> None:
    assert post(address, chat_body(), host="evil.example")[0] == 403  # DNS rebinding
    assert post(address, chat_body(), origin="https://evil.example")[0] == 403
    assert post(address, chat_body(), content_type="text/plain")[0] == 415  # what a form can send without asking
    status, _, headers = post(address, chat_body(max_tokens=1), origin=address)
    assert status == 200
    assert "access-control-allow-origin" not in headers


def test_unknown_addresses_and_methods_are_told_apart(address: str) -> None:
    assert post(address, b"{}", "/v1/embeddings")[0] == 404
    assert post(address, b"{}", "/v1/models")[0] == 405


def test_only_who_has_the_key_is_answered(root: Path) -> None:
    with serving(desk_of(root, "chat"), names=None, key="s3cret") as address:
        for wrong in ("s3cre", "s3cret2", "é"):
            with client_of(address, wrong) as client, pytest.raises((openai.AuthenticationError, UnicodeEncodeError)):
                client.models.list()
        status, answer, headers = post(address, chat_body())
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert "s3cret" not in json.dumps(answer)
        with client_of(address, "s3cret") as client:
            assert client.chat.completions.create(model="chat@10", messages=HI, max_tokens=1).choices
        assert post(address, chat_body(max_tokens=1), authorization="bearer s3cret", host="any.example")[0] == 200


def test_who_asks_too_often_is_told_when_to_come_again(root: Path) -> None:
    with serving(desk_of(root, "chat"), requests_per_minute=3) as address, client_of(address) as client:
        for _ in range(3):
            client.models.list()
        with pytest.raises(openai.RateLimitError) as refused:
            client.models.list()
        assert 1 <= int(refused.value.response.headers["retry-after"]) <= 21


def test_a_client_that_leaves_stops_the_model(desk: Desk) -> None:
    script = Scripted(desk, ["word "] * 256, seconds=0.01)
    with serving(desk) as address, client_of(address) as client:
        stream = client.chat.completions.create(model="chat@10", messages=HI, stream=True)
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        stream.close()
        assert until(lambda: not desk._busy.locked())
        assert script.n_said < 100
        connection = http.client.HTTPConnection(address.removeprefix("http://"))
        connection.request("POST", "/v1/chat/completions", chat_body(), {"content-type": "application/json"})
        assert until(desk._busy.locked)
        connection.sock.shutdown(socket.SHUT_RDWR)  # not streamed: nothing has been sent yet
        connection.close()
        assert until(lambda: not desk._busy.locked())
        assert script.n_said < 200


def test_one_is_answered_one_waits_and_the_next_is_sent_away(desk: Desk) -> None:
    script = Scripted(desk, ["word "] * 40, seconds=0.01)
    answers: list[Any] = []
    with serving(desk) as address, client_of(address) as client:

        def ask() -> None:
            answers.append(client.chat.completions.create(model="chat@10", messages=HI))

        askers = [threading.Thread(target=ask) for _ in range(2)]
        askers[0].start()
        assert until(desk._busy.locked)
        askers[1].start()
        assert until(lambda: desk._n_waiting == 1)
        with pytest.raises(openai.InternalServerError) as refused:
            ask()
        assert refused.value.status_code == 503
        assert refused.value.response.headers["retry-after"] == "5"
        for asker in askers:
            asker.join()
    assert [answer.usage.completion_tokens for answer in answers] == [40, 40]
    assert script.n_said == 80
    assert not desk._busy.locked()


def test_who_leaves_the_line_is_not_waited_for_and_waiting_has_an_end(root: Path) -> None:
    desk = desk_of(root, "chat", n_waiting=1, wait_s=0.2)
    script = Scripted(desk, ["word "] * 100, seconds=0.01)
    with serving(desk) as address, client_of(address) as client:
        first = client.chat.completions.create(model="chat@10", messages=HI, stream=True)
        next(iter(first))
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=0.05).chat.completions.create(model="chat@10", messages=HI)
        assert until(lambda: desk._n_waiting == 0)
        with pytest.raises(openai.InternalServerError, match="was busy for"):
            client.chat.completions.create(model="chat@10", messages=HI)
        first.close()
        assert until(lambda: not desk._busy.locked())
    assert script.n_said < 100
    assert len(script.samplings) == 1


def test_a_model_that_fails_ends_its_answer_with_an_error_and_is_free_again(
    desk: Desk, capfd: pytest.CaptureFixture[str]
) -> None:
    Scripted(desk, ["one ", "!"])
    with serving(desk) as address, client_of(address) as client:
        with pytest.raises(openai.InternalServerError, match="its terminal says why"):
            client.chat.completions.create(model="chat@10", messages=HI)
        with pytest.raises(openai.APIError, match="the model failed"):
            list(client.chat.completions.create(model="chat@10", messages=HI, stream=True))
        assert until(lambda: not desk._busy.locked())
    assert "the model is out of order" in capfd.readouterr().err


def test_ctrl_c_ends_a_server_at_once_in_the_middle_of_an_answer(root: Path) -> None:
    command = [sys.executable, "-u", "-m", "train.serve", "--run", "chat", "--run", "base@10", "--port", "0"]
    environment = os.environ | {"DATAPREP_ROOT": str(root), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        assert server.stderr
        printed = ""
        while not printed.startswith("next: "):
            printed = server.stdout.readline()
            assert printed, server.stderr.read()
        address = re.findall(r"http://[\d.:]+", printed)[0]
        with client_of(address) as client:
            asked: Any = {"model": "base@10", "prompt": "the", "max_tokens": 2048}
            next(iter(client.completions.create(**asked, stream=True)))
            began = time.monotonic()
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=20) == 0
            assert time.monotonic() - began < 5
        assert server.stdout.read() == "ended\n"
        assert server.stderr.read() == ""


def test_told_to_end_it_waits_for_no_token_and_says_so_to_everyone_in_line(
    desk: Desk, capfd: pytest.CaptureFixture[str]
) -> None:
    script = Scripted(desk, ["word "] * 40, seconds=4.0)
    told: list[str] = []

    def ask(**how: Any) -> None:
        try:
            told.append(str(list(client.chat.completions.create(model="chat@10", messages=HI, **how))))
        except openai.APIError as error:
            told.append(error.message)

    with serving(desk) as address:
        client = client_of(address)  # stays open until it was told
        speaking, waiting = threading.Thread(target=ask, kwargs={"stream": True}), threading.Thread(target=ask)
        speaking.start()
        assert until(desk._busy.locked)
        waiting.start()
        assert until(lambda: desk._n_waiting == 1)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    speaking.join()
    waiting.join()
    client.close()
    assert ["the server is ending" in each for each in told] == [True, True], told
    assert len(script.samplings) == 1
    assert capfd.readouterr().err == ""


def test_what_cannot_be_served_is_said_before_a_model_is_loaded(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settle(monkeypatch, root)
    with pytest.raises(UsageError, match="lets other machines ask"):
        main(["--run", "chat", "--host", "0.0.0.0"])
    (tmp_path / "empty.key").write_text("\n")
    with pytest.raises(UsageError, match="holds no key"):
        main(["--run", "chat", "--api-key-file", str(tmp_path / "empty.key")])
    with pytest.raises(UsageError) as no_key:
        main(["--run", "chat", "--api-key", "two words"])
    assert "two words" not in str(no_key.value)
    with pytest.raises(DataError, match="cannot be read"):
        main(["--run", "chat", "--api-key-file", str(tmp_path / "none.key")])
    with pytest.raises(UsageError, match="there is no run 'nobody'"):
        main(["--run", "nobody", "--port", "0"])
    if not torch.cuda.is_available():
        with pytest.raises(EnvironmentProblem, match="there is no GPU for --device cuda"):
            main(["--run", "chat", "--port", "0", "--device", "cuda"])
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(EnvironmentProblem, match="cannot listen") as taken:
            main(["--run", "chat", "--port", str(port)])
    assert f"--port {port + 1}" in str(taken.value)
    assert len(str(taken.value).splitlines()) == 3
