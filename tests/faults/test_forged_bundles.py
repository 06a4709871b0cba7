"""Forged bundles: entries that lead out of the zip, a task list that calls something.

In:  the small bundle of tests/bundle_maker.py, with what an enemy would add. Out: nothing written, nothing called.
Holds: a zip is read in place, never unpacked; core.yaml is read by safe_load.
"""

import stat
import zipfile
from pathlib import Path

import pytest
from bundle_maker import write_bundle, zip_bundle

from dataprep.bundle import open_bundle
from dataprep.errors import DataError


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def test_a_bundle_is_read_in_place_and_its_entries_lead_nowhere(tmp_path: Path) -> None:
    inside = tmp_path / "deep" / "inside"
    zipped = zip_bundle(write_bundle(inside), inside / "core.zip")
    whole = open_bundle(zipped)
    link = zipfile.ZipInfo("eval_bundle/eval_data/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(zipped, "a") as file:
        for name in ("../escaped", "../../escaped", "eval_bundle/../../../escaped", f"{tmp_path}/absolute", "C:\\x"):
            file.writestr(name, "escaped")
        file.writestr(link, str(tmp_path))
        file.writestr("eval_bundle/eval_data/link/through", "escaped")
    before = snapshot(tmp_path)
    assert open_bundle(zipped).tasks == whole.tasks
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [{0}]", "!!python/object/new:os.mkdir [{0}]"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_task_list_that_calls_something_is_refused_and_calls_nothing(tag: str, zipped: bool, tmp_path: Path) -> None:
    top, marker = write_bundle(tmp_path), tmp_path / "marker"
    text = (top / "core.yaml").read_text()
    (top / "core.yaml").write_text(f"trap: {tag.format(marker)}\n{text}")
    with pytest.raises(DataError, match=r"core\.yaml") as refused:
        open_bundle(zip_bundle(top, tmp_path / "core.zip") if zipped else top)
    assert "could not determine a constructor" in str(refused.value)
    assert not marker.exists()
