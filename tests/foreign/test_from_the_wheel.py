"""An outsider can write a store and test it with nothing but our wheel: no checkout, no conftest of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ET  # the file is pytest's own
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
OUTSIDER = HERE / "jsonstore_for_vecbench"
_IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", ".*")


def _run(*command: str | Path, cwd: Path) -> str:
    # Nothing of this run may lead the other interpreter back to the checkout.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def _wheel(source: Path, out: Path) -> Path:
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source, cwd=out.parent)
    (made,) = out.glob("*.whl")
    return made


@pytest.mark.slow
def test_an_outsiders_store_passes_the_suite_of_the_wheel(tmp_path: Path) -> None:
    # Built from copies: setuptools leaves build folders beside the sources.
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    for name in ("vecbench", "adapters", "datasets"):
        shutil.copytree(CHECKOUT / name, ours / name, ignore=_IGNORED)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, ours / name)
    shutil.copytree(OUTSIDER, theirs, ignore=_IGNORED)
    wheels = [_wheel(ours, tmp_path / "wheel-of-ours"), _wheel(theirs, tmp_path / "wheel-of-theirs")]

    venv = tmp_path / "venv"
    _run(sys.executable, "-m", "venv", venv, cwd=tmp_path)
    python = venv / "bin" / "python"
    _run(python, "-m", "pip", "install", "--no-index", "--no-deps", *wheels, cwd=tmp_path)
    # numpy, pytest and the like come from this environment, so nothing is downloaded. An editable install here does
    # not come along: the .pth files of a directory that a .pth file names are not read.
    packages = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (packages / "of_the_developer.pth").write_text(sysconfig.get_path("purelib") + "\n")

    told = _run(
        python, "-c", "import vecbench.testing as t, jsonstore as j; print(t.__file__, j.__file__)", cwd=tmp_path
    )
    assert all(Path(file).is_relative_to(venv) for file in told.split())

    report = tmp_path / "report.xml"
    # pytest-asyncio, which an outsider need not have, warns unless it is configured.
    plugins = ("-p", "no:cacheprovider", "-p", "no:asyncio")
    arguments = ("-q", *plugins, "-W", "error", f"--junitxml={report}", "--rootdir", theirs / "tests")
    _run(python, "-m", "pytest", *arguments, theirs / "tests", cwd=theirs / "tests")
    (suite,) = ET.parse(report).iter("testsuite")  # noqa: S314  written by pytest a moment ago
    assert int(suite.attrib["tests"]) > 50
    assert [suite.attrib[bad] for bad in ("failures", "errors", "skipped")] == ["0", "0", "0"]
