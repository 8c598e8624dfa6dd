from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from vecbench.bench.machine import describe_machine
from vecbench.bench.result import CaseResult, Column, Report
from vecbench.errors import BenchmarkError


def _report() -> Report:
    return Report(
        vecbench_version="0", started_utc="2026-01-01T00:00:00+00:00", plan={"k": 10}, dataset={},
        machine=describe_machine(), cases=[CaseResult(store="s", metric="euclidean", status="ok")],
    )  # fmt: skip


def test_a_column_is_little_endian_int64_zlib_base64() -> None:
    values = np.array([[1, -1, 2**62], [0, 5, 7]], np.int64)
    column = Column.encode(values)
    assert column.shape == [2, 3]
    raw = zlib.decompress(base64.b64decode(column.zlib_base64))
    assert raw == b"".join(int(v).to_bytes(8, "little", signed=True) for v in values.ravel())
    assert np.array_equal(column.decode(), values)
    assert np.array_equal(Column.encode(values.astype(">i8")).decode(), values)


@pytest.mark.parametrize(
    "damaged",
    [
        Column(shape=[2], zlib_base64=Column.encode(np.arange(3)).zlib_base64),
        Column(shape=[4], zlib_base64=Column.encode(np.arange(3)).zlib_base64),
        Column(shape=[3], zlib_base64="AAAA"),
        Column(shape=[3], zlib_base64="not base64!"),
        Column(shape=[1], zlib_base64=base64.b64encode(zlib.compress(bytes(10**7))).decode()),
    ],
)
def test_a_damaged_column_is_refused(damaged: Column) -> None:
    with pytest.raises(BenchmarkError, match="damaged"):
        damaged.decode()


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    report = _report()
    report.save(tmp_path / "r.json")
    assert Report.load(tmp_path / "r.json") == report
    data = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert (data["format"], data["version"]) == ("vecbench-report", 1)


@pytest.mark.parametrize("links", [True, False])
def test_no_report_takes_the_place_of_another(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:

        def refused(_self: Path, _target: Path) -> None:
            raise PermissionError(1, "no links here")

        monkeypatch.setattr(Path, "hardlink_to", refused)
    first, second, third = (_report().model_copy(update={"null_cost_ns": float(n)}) for n in (1, 2, 3))
    assert first.save(tmp_path / "r.json") == tmp_path / "r.json"
    assert second.save(tmp_path / "r.json") == tmp_path / "r-2.json"
    assert third.save(tmp_path / "r.json", replace=True) == tmp_path / "r.json"
    assert first.save(tmp_path / "r.json") == tmp_path / "r-3.json"
    kept = {path.name: Report.load(path).null_cost_ns for path in tmp_path.iterdir()}
    assert kept == {"r.json": 3, "r-2.json": 2, "r-3.json": 1}  # and nothing beside them


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["version"], 2, "version"),
        (["format"], "other", "format"),
        (["cases", 0, "status"], "fine", "cases.0.status"),
        (["cases", 0, "surprise"], 1, "cases.0.surprise"),
        (["machine", "memory_bytes"], "much", "machine.memory_bytes"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, path: list[str | int], value: object, said: str) -> None:
    data = json.loads(_report().model_dump_json())
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    file = tmp_path / "r.json"
    file.write_text(json.dumps(data), "utf-8")
    with pytest.raises(BenchmarkError, match=said):
        Report.load(file)


def test_no_file_and_no_json_are_said(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="cannot be read"):
        Report.load(tmp_path / "none.json")
    (tmp_path / "r.json").write_text("{")
    with pytest.raises(BenchmarkError, match="no JSON"):
        Report.load(tmp_path / "r.json")


def test_failed_is_any_case_without_valid_numbers() -> None:
    report = _report()
    assert not report.failed
    for status in ("failed", "void"):
        report.cases[0].status = status
        assert report.failed


def test_the_machine_names_no_person_and_no_host() -> None:
    import getpass
    import socket

    text = describe_machine().model_dump_json()
    assert socket.gethostname() not in text
    assert f'"{getpass.getuser()}"' not in text
    assert str(Path.home()) not in text
