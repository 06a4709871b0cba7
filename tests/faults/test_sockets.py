"""Sockets: training alone opens none, training on two ranks only those of its process group, on this machine.

In:  the real command under strace, which says every socket, connect and bind of all its processes.
Holds: nobody but this machine is talked to. What torch and the C library do beside that is named below.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from torture import errors
from training import FLAGS, REPOSITORY

RUN = (*FLAGS, "--tokens", "1024")
MADE = re.compile(r"\bsocket\((\w+)")
CALLED = re.compile(r"(connect|bind)\(\d+, \{.*?port=htons\((\d+)\).*?\"([^\"]+)\"")
# The C library's own question who the user is, to a service of this machine that most do not run.
NAME_SERVICE = 'sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"'
DNS = 53  # torch asks for the name of 127.0.0.1, to say it in its log
THIS_MACHINE = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--")


def traced(folder: Path, *command: str) -> str:
    """Every call that has to do with sockets, of a command that succeeds."""
    if why := errors.why_no_strace(folder / "trying"):
        pytest.skip(why)
    calls = "trace=socket,connect,bind,sendto,sendmsg"
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", calls, "-o", str(folder / "calls"), sys.executable]
    done = subprocess.run([*strace, *command], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return (folder / "calls").read_text()


@pytest.mark.usefixtures("root")
def test_training_on_one_rank_opens_no_socket_to_any_machine(tmp_path: Path) -> None:
    calls = traced(tmp_path, str(REPOSITORY / "train/main.py"), *RUN)
    assert set(MADE.findall(calls)) <= {"AF_UNIX"}
    asked = [line for line in calls.splitlines() if re.search(r"\b(connect|bind|sendto|sendmsg)\(", line)]
    assert [line for line in asked if NAME_SERVICE not in line] == []


@pytest.mark.usefixtures("root")
def test_training_on_two_ranks_talks_to_this_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")  # else by the card that has the machine's own name
    calls = CALLED.findall(traced(tmp_path, *LAUNCHER, str(REPOSITORY / "train/main.py"), *RUN))
    talked_to = {address for call, port, address in calls if call == "connect" and int(port) not in {0, DNS}}
    assert talked_to
    assert talked_to <= THIS_MACHINE
    listened_at = [address for call, _, address in calls if call == "bind"]
    # torchrun's meeting point listens everywhere: torch's TCPStore takes no address to listen at.
    assert {address for address in listened_at if address not in {"::", "0.0.0.0"}} == {"127.0.0.1"}
