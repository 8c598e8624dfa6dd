"""`vecbench truth` as a person uses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from vecbench.cli.main import app
from vecbench.cli.truth import _device
from vecbench.distance import exact_distances
from vecbench.registry import dataset_source
from vecbench.truth import ground_truth
from vecbench.types import Metric


def test_it_is_computed_once_and_found_by_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.save(tmp_path / "mine.npy", np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32))
    arguments = ["truth", str(tmp_path / "mine.npy"), "--metric", "euclidean", "--k", "7"]
    first = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)[0]
    assert (first["metric"], first["k"]) == ("euclidean", 7)
    assert first["gflops"] > 0
    assert Path(first["folder"]).is_relative_to(tmp_path)
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0, again.output
    assert f"it was kept already, {first['sha256'][:16]}" in again.stdout
    data = dataset_source(str(tmp_path / "mine.npy")).load()
    written = CliRunner().invoke(app, [*arguments, "--threads", "2", "--out", str(tmp_path / "found.npz")])
    assert written.exit_code == 0, written.output
    kept = ground_truth(data, Metric.EUCLIDEAN, 7, compute=False)
    nearest = np.argsort(exact_distances(data.queries, data.base, Metric.EUCLIDEAN), axis=1, kind="stable")[:, :7]
    assert np.array_equal(kept.rows, nearest)
    with np.load(tmp_path / "found.npz", allow_pickle=False) as file:
        assert np.array_equal(file["rows"], nearest)
        assert np.array_equal(file["distances"], kept.distances)
        assert file["ids"].tolist() == [[data.ids[row] for row in rows] for rows in nearest.tolist()]
    refused = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "found.npz")])
    assert refused.exit_code == 2
    assert "give --force" in refused.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "manhattan"], "'manhattan' is not known"),
        (["--k", "0"], "--k must be at least 1"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--memory", "63"], "--memory must be at least 64"),
        (["--out", "x.npz"], "choose with --metric euclidean"),
        (["--metric", "dot", "--out", "x.npy"], "must end in .npz"),
        (["--metric", "dot", "--out", "nowhere/x.npz"], "nothing can be written to nowhere"),
    ],
)
def test_what_cannot_be_computed_is_refused(options: list[str], message: str) -> None:
    refused = CliRunner().invoke(app, ["truth", "glosses-10k", *options])
    assert refused.exit_code == 2
    assert message in refused.stderr


def test_the_first_device_that_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        def __init__(self, device: object) -> None:
            self._device = device

        def load(self) -> object:
            return lambda: self._device

    device = object()
    asked: list[str] = []

    def points(*, group: str) -> list[Point]:
        asked.append(group)
        return [Point(None), Point(device), Point(object())]

    monkeypatch.setattr("importlib.metadata.entry_points", points)
    assert _device() is device
    assert asked == ["vecbench.devices"]


def test_what_could_not_be_kept_is_not_said_to_be(vecbench: Callable[..., Any], tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32))
    done = vecbench("truth", "mine.npy", "--metric", "euclidean", "--k", "7", XDG_CACHE_HOME="/dev/null")
    assert done.returncode == 0, done.stderr
    assert "warning: ground truth could not be kept in /dev/null/" in done.stderr
    assert "UserWarning" not in done.stderr
    assert "kept in:" not in done.stderr
    told = vecbench("truth", "mine.npy", "--metric", "euclidean", "--k", "7", "--json", XDG_CACHE_HOME="/dev/null")
    assert json.loads(told.stdout)[0]["folder"] is None
