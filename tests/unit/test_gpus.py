"""The table of GPUs: names as people and as torch spell them, and what is not in it."""

import argparse

import pytest

from dataprep.gpus import find_gpu, gpu_table, gpus

DEVICES = {
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA H100 PCIe": "H100-PCIe",
    "NVIDIA H200": "H200",
    "NVIDIA B200": "B200",
    "NVIDIA A100-SXM4-80GB": "A100-80GB",
    "NVIDIA A100 80GB PCIe": "A100-80GB",
    "NVIDIA A100-SXM4-40GB": "A100-40GB",
    "NVIDIA A100-PCIE-40GB": "A100-40GB",
    "NVIDIA L40S": "L40S",
    "NVIDIA GeForce RTX 4090": "RTX-4090",
    "NVIDIA GeForce RTX 5090": "RTX-5090",
    "rtx4090": "RTX-4090",
    "h100": "H100",
}
STRANGERS = (
    *("NVIDIA H20", "NVIDIA L40", "NVIDIA L4", "NVIDIA GB200", "NVIDIA H100 NVL", "A100", "cpu", ""),
    *("NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 D", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"),
)


@pytest.mark.parametrize(("device", "wanted"), DEVICES.items())
def test_a_device_is_found_by_the_name_torch_gives_it(device: str, wanted: str) -> None:
    gpu = find_gpu(device)
    assert gpu is not None
    assert gpu.name == wanted


@pytest.mark.parametrize("device", STRANGERS)
def test_what_is_not_in_the_table_is_not_taken_for_something_similar(device: str) -> None:
    assert find_gpu(device) is None


def test_every_gpu_is_found_by_its_own_name_and_has_sane_figures() -> None:
    for gpu in gpu_table().gpus:
        assert find_gpu(gpu.name) == gpu
        assert 1e14 < gpu.peak_flops < 1e16
        assert 8 < gpu.memory_gib < 1_000
        assert 0.1 < gpu.usd_per_hour < 50


def test_so_many_of_one_gpu_are_typed_as_people_write_it() -> None:
    assert [gpus(text).name for text in ("4xH100", "8×h200", "RTX-4090", "2xcpu", "CPU")] == [
        *("4xH100", "8xH200", "1xRTX-4090", "2xcpu", "1xcpu"),
    ]
    assert [gpus(text).name for text in ("8 H100", "8 x H100", "8*H100", "2 RTX 4090", "NVIDIA H100 80GB HBM3")] == [
        *("8xH100", "8xH100", "8xH100", "2xRTX-4090", "1xH100"),
    ]


@pytest.mark.parametrize("text", ["H100:8", "H100 x8", "H100,8", "H100 8", "8-H100", "2x 4 H100", "H100 * 8"])
def test_a_number_of_gpus_that_is_not_understood_is_refused_and_never_taken_for_one(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="4xH100"):
        gpus(text)


@pytest.mark.parametrize("text", ["4xK80", "0xH100", "-1xH100", "H100x4", "4x", "", "999999xH100", "1.5xH100"])
def test_what_names_no_gpu_is_refused_with_the_names_there_are(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="A100-80GB"):
        gpus(text)
