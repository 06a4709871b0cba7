"""The doctor: what it makes of machines, whole on this one; it tells what to do, and never ends in a traceback."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from conftest import run_in

from dataprep.errors import DataError
from train.doctor import __main__ as doctor
from train.doctor import nvidia
from train.doctor.finding import FAIL, OK, WARN, Finding, examine
from train.doctor.gpus import check_driver, check_torch, judge_links, read_links
from train.doctor.machine import file_system, judge_disk, judge_shared_memory, judge_terminal
from train.doctor.nvidia import DriverView, GpuView, TorchView, look_at_driver
from train.doctor.packages import PROJECT, lacking
from train.preflight import Diagnosis, Trial, Variables

REPOSITORY = Path(__file__).resolve().parents[2]
GB = 10**9
NVLINK = """
\t\x1b[4mGPU0\tGPU1\tNIC0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m
GPU0\t X \tNV18\tSYS\t0-31\t0\t\tN/A
GPU1\tNV18\t X \tPIX\t0-31\t0\t\tN/A
NIC0\tSYS\tPIX\t X

Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes (e.g., QPI/UPI)
"""
PCIE = "\tGPU0\tGPU1\tGPU2\nGPU0\t X \tPHB\tSYS\nGPU1\tPHB\t X \tSYS\nGPU2\tSYS\tSYS\t X\n"
MOUNTS = """22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:26 / /mnt/data rw,relatime shared:2 - nfs4 server:/export rw
31 22 0:27 / /mnt/my\\040disk rw - xfs /dev/sdb rw
32 22 0:28 / /mnt/data/fast rw - ext4 /dev/sdc rw
33 32 0:29 / /mnt/data/fast rw - tmpfs tmpfs rw
"""
H100 = GpuView(name="NVIDIA H100", total_mib="81559", used_mib="4", driver="570.1")


def report(root: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The doctor's exit code, and its findings by name."""
    code = run_in(root, doctor.main, "--json", *flags)
    return code, {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}


def only(findings: Iterable[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def install_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program of that name which does what the test says."""
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


# ---- the whole verb


def test_on_this_machine_every_line_has_a_level_and_what_is_not_well_has_advice(
    packed_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, findings = report(packed_root, capsys)
    assert {"packages", "torch", "CUDA", "driver", "processors", "memory", "shared memory"} <= set(findings)
    assert {"disk of data/", "disk of runs/", "open files", "terminal", "data alpha", "data beta"} <= set(findings)
    assert code == (5 if any(finding["level"] == FAIL for finding in findings.values()) else 0)
    for finding in findings.values():
        assert finding["level"] in (OK, WARN, FAIL)
        assert finding["level"] == OK or finding["advice"], finding
        assert "could not be looked at" not in finding["seen"], finding
    assert findings["data alpha"]["seen"].startswith("3 train shards, ")
    assert findings["data alpha"]["seen"].endswith(" tokens of tiny-bpe; 1 held out")

    run_in(packed_root, doctor.main)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok    torch") for line in lines)
    assert lines[-1].endswith(" FAIL")


def test_damaged_and_missing_shards_are_found_without_touching_the_manifest(
    encoded_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    shutil.copytree(encoded_root, root)
    (root / "manifests" / "tokens.db").unlink(missing_ok=True)
    bins = root / "data" / "bins" / "tiny-bpe"
    (bins / "alpha" / "shard_00001.json").unlink()
    (bins / "beta" / "shard_00000.bin").write_bytes(b"cut")
    code, findings = report(root, capsys)
    assert code == 5
    assert (findings["data alpha"]["level"], findings["data beta"]["level"]) == (WARN, FAIL)
    assert findings["data alpha"]["seen"].startswith("2 of 3 train shards")
    assert findings["data alpha"]["advice"].startswith("make shards SOURCE=alpha N=")
    assert "shard_00000.bin of beta is not what its receipt says: 3 bytes" in findings["data beta"]["seen"]
    (bins / "beta" / "shard_00000.json").write_text("{")
    assert report(root, capsys)[1]["data beta"]["level"] == FAIL
    assert not (root / "manifests" / "tokens.db").exists()


def test_an_empty_folder_is_told_how_to_begin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, findings = report(tmp_path / "not" / "there", capsys)
    assert findings["data"] == {
        "name": "data",
        "level": WARN,
        "seen": "nothing in data/bins",
        "advice": "make demo, or make shards N=1",
    }


def test_help_is_printed_without_loading_torch() -> None:
    code = (
        "import sys\nfrom train.doctor import __main__ as doctor\n"
        "try:\n    doctor.main(['--help'])\nfinally:\n    print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.startswith("usage: python -m train.doctor")
    assert done.stdout.splitlines()[-1] == "False False"


def test_the_all_reduce_is_tried_for_real_on_the_processor_and_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(doctor, "_look", lambda: ([], 0))
    code, findings = report(tmp_path, capsys, "--nccl")
    assert code == 0
    assert findings["all-reduce"]["seen"].endswith("gloo on the CPU: there is no GPU")


@pytest.mark.parametrize(
    ("works_with", "level", "advice"),
    [
        ({}, OK, ""),
        ({"NCCL_IB_DISABLE": "1"}, FAIL, "export NCCL_IB_DISABLE=1"),
        ({"NO": "HELP"}, FAIL, "NCCL_DEBUG=INFO python -m train.doctor --nccl tells more"),
    ],
)
def test_gpus_that_hang_fail_the_doctor_with_the_line_that_cures_them(
    works_with: Variables,
    level: str,
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def simulated(_: Any, variables: Variables, *, world_size: int, timeout_s: float) -> Trial:
        assert (world_size, timeout_s) == (2, 40)
        answered = works_with.items() <= variables.items()
        return Trial(variables=variables, answered=answered, seconds=1, said="" if answered else "no answer")

    monkeypatch.setattr(doctor, "try_in_children", simulated)
    monkeypatch.setattr(doctor, "_look", lambda: ([], 8))
    code, findings = report(REPOSITORY, capsys, "--nccl")
    assert code == (0 if level == OK else 5)
    assert findings["all-reduce"]["level"] == level
    assert findings["all-reduce"]["advice"].startswith(advice)
    assert "nccl on two GPUs" in findings["all-reduce"]["seen"]


def test_a_single_gpu_is_tried_alone_and_said_to_be() -> None:
    healthy = Diagnosis(trials=(Trial(variables={}, answered=True, seconds=3, said=""),))
    assert doctor.judge_all_reduce(healthy, "nccl, one rank: there is one GPU", "").level == OK


# ---- GPUs


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "Failed to initialize NVML"),
        ("exec sleep 60", "no answer within 0.3 s"),
        ("exit 9", "exit code 9"),
    ],
)
def test_a_broken_driver_fails_the_doctor_in_the_drivers_own_words(
    script: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nvidia, "_LIMIT_S", 0.3)
    install_nvidia_smi(tmp_path, monkeypatch, script)
    code, findings = report(tmp_path, capsys)
    assert code == 5
    assert findings["driver"]["level"] == FAIL
    assert complaint in findings["driver"]["seen"]


def test_gpus_are_read_from_the_driver_and_babble_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, monkeypatch, "echo; echo a warning; echo 'NVIDIA H100, 81559, 4, 570.1'")
    assert look_at_driver() == DriverView(gpus=(H100,), is_there=True, complaint="")


@pytest.mark.parametrize(
    ("torch", "n_gpus", "level", "words"),
    [
        (TorchView(version="2.13.0", cuda="13.0", n_gpus=8, complaint=""), 8, OK, "13.0, usable GPUs: 8"),
        (TorchView(version="2.13.0+cpu", cuda=None, n_gpus=0, complaint=""), 0, WARN, "no GPU here"),
        (TorchView(version="2.13.0+cpu", cuda=None, n_gpus=0, complaint=""), 2, FAIL, "a CPU build beside 2 GPUs"),
        (TorchView(version="2.13.0", cuda="13.0", n_gpus=0, complaint="driver too old"), 1, FAIL, "driver too old"),
    ],
)
def test_torch_and_driver_are_compared(torch: TorchView, n_gpus: int, level: str, words: str) -> None:
    found = only(check_torch(torch, DriverView(gpus=(H100,) * n_gpus, is_there=True, complaint="")), "CUDA")
    assert found.level == level
    assert words in found.seen


def test_a_torch_that_cannot_be_loaded_is_a_failure_with_its_reason() -> None:
    broken = TorchView(version=None, cuda=None, n_gpus=0, complaint="libcudart.so.13: cannot open shared object file")
    (found,) = check_torch(broken, DriverView(gpus=(), is_there=False, complaint=""))
    assert (found.level, found.name) == (FAIL, "torch")
    assert "libcudart.so.13" in found.seen


@pytest.mark.parametrize(
    ("gpus", "n_usable", "level", "words"),
    [
        ((H100, H100), 2, OK, "2 x NVIDIA H100 of 81559 MiB"),
        (
            (H100, GpuView(name="NVIDIA H100", total_mib="81559", used_mib="70000", driver="570.1")),
            2,
            WARN,
            "1 (70000 MiB)",
        ),
        ((H100, GpuView(name="NVIDIA A100", total_mib="81920", used_mib="[N/A]", driver="570.1")), 2, WARN, " and "),
        ((H100, H100), 1, WARN, "torch uses 1"),
    ],
)
def test_gpus_in_use_unlike_or_left_out_are_worth_a_warning(
    gpus: tuple[GpuView, ...], n_usable: int, level: str, words: str
) -> None:
    found = only(check_driver(DriverView(gpus=gpus, is_there=True, complaint=""), n_usable), "GPUs")
    assert found.level == level
    assert words in found.seen


def test_links_between_gpus_are_read_and_those_through_a_processor_warned_of() -> None:
    assert read_links(NVLINK) == {"NV18"}
    assert judge_links({"NV18"}).level == OK
    assert read_links(PCIE) == {"PHB", "SYS"}
    assert judge_links({"PHB", "SYS"}).level == WARN
    assert "NCCL_P2P_DISABLE=1" in judge_links({"SYS"}).advice
    assert read_links("nothing of the kind") == set()


# ---- the machine


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/me", "ext4"),
        ("/mnt/data/set", "nfs4"),
        ("/mnt/database", "ext4"),
        ("/mnt/my disk/x", "xfs"),
        ("/mnt/data/fast", "tmpfs"),
    ],
)
def test_a_folders_file_system_is_that_of_its_deepest_and_newest_mount(folder: str, kind: str) -> None:
    assert file_system(MOUNTS, Path(folder)) == kind


@pytest.mark.parametrize(
    ("free", "kind", "level"),
    [
        (100 * GB, "ext4", OK),
        (10 * GB, "ext4", WARN),
        (GB // 2, "ext4", FAIL),
        (900 * GB, "nfs4", WARN),
        (900 * GB, "fuse.sshfs", WARN),
        (900 * GB, "tmpfs", WARN),
        (100 * GB, "", OK),
    ],
)
def test_disks_are_judged_by_space_and_kind(free: int, kind: str, level: str) -> None:
    assert judge_disk(free, kind)[0] == level


@pytest.mark.parametrize(
    ("free", "n_gpus", "level"), [(64 * 2**20, 8, FAIL), (64 * 2**20, 1, WARN), (GB // 2, 8, WARN), (8 * GB, 8, OK)]
)
def test_a_containers_64_mb_of_shared_memory_fail_where_gpus_need_them(free: int, n_gpus: int, level: str) -> None:
    assert judge_shared_memory(free, free, n_gpus).level == level


@pytest.mark.parametrize(
    ("environment", "is_terminal", "held", "level", "advice"),
    [
        ({"TMUX": "/tmp/tmux-0/default,1,0"}, True, (), OK, ""),
        ({"STY": "1.pts"}, True, (), OK, ""),
        ({}, False, (), OK, ""),
        ({}, True, ("tmux", "screen"), WARN, "tmux new -s train"),
        ({}, True, ("screen",), WARN, "screen -S train"),
        ({}, True, (), WARN, "apt-get install tmux"),
    ],
)
def test_a_terminal_that_may_be_cut_off_is_warned_of(
    environment: dict[str, str], is_terminal: bool, held: tuple[str, ...], level: str, advice: str
) -> None:
    found = judge_terminal(
        environment, is_terminal=is_terminal, find=lambda program: program if program in held else None
    )
    assert found.level == level
    assert found.advice.startswith(advice)


# ---- packages, and checks that fail themselves


def test_every_package_of_pyproject_is_of_the_form_that_is_compared() -> None:
    project = tomllib.loads(PROJECT.read_text())["project"]
    assert len(project["dependencies"]) > 10
    for requirement in project["dependencies"]:
        assert lacking(requirement, "99999.0") is None
        assert lacking(requirement, None)


@pytest.mark.parametrize(
    ("requirement", "found", "lack"),
    [
        ("torch>=2.11", "2.13.0+cpu", None),
        ("torch>=2.11", "2.11", None),
        ("torch>=2.11", "2.9.1+cu130", "torch 2.9.1+cu130, wanted >=2.11"),
        ("numpy>=2.0", "1.26.4", "numpy 1.26.4, wanted >=2.0"),
        ("numpy>=2.0", "2", None),
        ("pyarrow>=20", "20.0.0", None),
    ],
)
def test_versions_are_compared_number_by_number(requirement: str, found: str, lack: str | None) -> None:
    assert lacking(requirement, found) == lack


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (PermissionError(13, "Permission denied", "/proc/meminfo"), WARN),
        (ValueError("not a number"), WARN),
        (DataError("a receipt is damaged", seen="{", wanted="JSON", fix="make shards N=1"), FAIL),
    ],
)
def test_a_check_that_fails_is_a_finding_and_not_a_traceback(error: Exception, level: str) -> None:
    def check() -> Iterable[Finding]:
        raise error

    (found,) = examine("memory", check)
    assert (found.name, found.level) == ("memory", level)
    assert found.advice
