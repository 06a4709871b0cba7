"""Secrets: a planted token and a planted key go through every verb, and are nowhere afterwards.

In:  HF_TOKEN and a key file with values that occur nowhere else. Out: every file below the root, all that was printed.
Holds: neither stands in any of them, as it is or in base64. (Error paths of the Hub are in test_network.py.)
"""

import base64
import http.client
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from loopback import Loopback, shard_bytes
from taking_hub import REPO, TOKEN, taking
from training import FLAGS, REPOSITORY

KEY = "servekeyplantedplantedplanted"
ENTRY = (
    '\n[texts]\nkind = "hub"\nrepo = "someone/texts"\nfiles = "*.parquet"\ntext = "text"\nholdout = ["shard_00002"]\n'
)
FILES = {f"shard_{i:05d}.parquet": shard_bytes(i, n_documents=200) for i in range(3)}


def run(*command: str, wanted_code: int = 0) -> str:
    """All that a command prints."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == wanted_code, done.stderr
    return done.stdout + done.stderr


def served(root: Path) -> str:
    """All that a server prints which is asked with its key, with another and with none."""
    (root.parent / "serve.key").write_text(f"{KEY}\n")
    command = ("-u", "-m", "train.serve", "--run", "base", "--port", "0", "--host", "0.0.0.0", "--api-key-file")
    with subprocess.Popen(
        [sys.executable, *command, str(root.parent / "serve.key")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        assert server.stdout
        printed = ""
        while "next: " not in printed:
            line = server.stdout.readline()
            assert line, printed
            printed += line
        port = int(re.findall(r"http://[\d.]+:(\d+)", printed)[0])
        statuses = [ask(port, header) for header in (f"Bearer {KEY}", f"Bearer {KEY}x", f"{KEY}: \x01", "")]
        server.send_signal(signal.SIGINT)
        printed += server.stdout.read()
    assert statuses == [200, 401, 401, 401]
    assert server.returncode == 0
    return printed


def ask(port: int, authorization: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/v1/models", headers={"authorization": authorization} if authorization else {})
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_token_and_a_key_are_nowhere_after_every_verb(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (root / "my.toml").open("a") as catalogue:
        catalogue.write(ENTRY)
    monkeypatch.setenv("HF_HOME", str(root / "hf"))
    source = ("--source", "texts", "--catalogue", str(root / "my.toml"), "--n", "1")
    main, out = str(REPOSITORY / "train/main.py"), str(root / "exported")
    with Loopback(dict(FILES), token=TOKEN) as origin:
        monkeypatch.setenv("HF_ENDPOINT", origin.endpoint)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        printed = run("-m", "dataprep.fetch", *source, "--engine", "hf_transfer")
        printed += run("-m", "dataprep.shards", *source, "--tokenizer", "tiny-bpe")
        origin.token = "another"  # what was accepted is accepted no more
        gated = run("-m", "dataprep.fetch", *source[:-1], "2", "--refresh", wanted_code=3)
    pack = ("--sources", "alpha,texts", "--mix", "80:20", "--name", "mixed", "--seq-len", "64")
    printed += gated + run("-m", "dataprep.pack", *pack, "--tokenizer", "tiny-bpe")
    printed += run(main, *FLAGS, "--recipe", "mixed", "--run", "base", "--tokens", "1024")
    with taking(monkeypatch) as hub:
        push = ("-m", "train.export", "--run", "base", "--to", "hf", "--no-verify", "--push", REPO)
        printed += run(*push, out)
        hub.refuse_with = 403
        printed += run(*push, "--force", out, wanted_code=5)
    printed += served(root)

    assert hub.taken
    for secret in (TOKEN, KEY):
        in_base64 = base64.b64encode(secret.encode()).decode().rstrip("=")
        for spelling in (secret, in_base64):
            assert spelling not in printed
            assert [file for file in files_below(root) if spelling.encode() in file.read_bytes()] == []
    assert len(files_below(root)) > 30


def files_below(root: Path) -> list[Path]:
    return [root / folder / name for folder, _, names in os.walk(root) for name in names]
