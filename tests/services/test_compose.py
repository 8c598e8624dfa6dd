"""docker/compose.yaml, as far as it can be checked without a docker engine, and the commands that use it.

The commands run against a program called docker that writes down what it was asked: what compose itself does with them
was not run.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from vecbench.errors import ConnectionFailed
from vecbench.services.compose import SERVERS, compose_down, compose_logs, compose_up, why_no_docker
from vecbench.services.manager import find

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_every_server_has_a_service_and_the_other_way_round() -> None:
    assert SERVICES.keys() == SERVERS.keys()
    assert {name: service["profiles"] for name, service in SERVICES.items()} == {n: [n, "all"] for n in SERVICES}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_checked_limited_and_on_loopback(name: str) -> None:
    service = SERVICES[name]
    repository, _, tag = service["image"].rpartition(":")
    assert repository
    assert re.fullmatch(r"v?\d+\.\d+[\w.-]*", tag), f"{service['image']} is not pinned to a version"
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert service["healthcheck"]["retries"] > 1
    limits = {key: service[key] for key in ("mem_limit", "memswap_limit", "cpus")}
    assert limits == {
        "mem_limit": "${VECBENCH_MEMORY:-8g}",
        "memswap_limit": "${VECBENCH_MEMORY:-8g}",
        "cpus": "${VECBENCH_CPUS:-4}",
    }
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["volumes"][0].partition(":")[0] == name
    assert name in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_the_ports_are_those_that_vecbench_asks_at(name: str) -> None:
    variable, default = SERVERS[name].port
    assert any(port.startswith(f"127.0.0.1:${{{variable}:-{default}}}:{default}") for port in SERVICES[name]["ports"])


def test_no_password_has_a_default() -> None:
    text = (ROOT / "docker" / "compose.yaml").read_text("utf-8")
    uses = re.findall(r"\$\{VECBENCH_PASSWORD([^}]*)\}", text)
    assert len(uses) == len(SERVICES) - 1  # chroma's server has no authentication
    assert all(use.startswith(":?") for use in uses)
    assert [name for name, server in SERVERS.items() if not server.options] == ["chroma"]


def test_the_package_carries_the_file() -> None:
    carried = ROOT / "vecbench" / "services" / "compose.yaml"
    assert carried.read_text("utf-8") == (ROOT / "docker" / "compose.yaml").read_text("utf-8")


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called docker that appends its arguments to a file, and knows enough to answer."""
    calls = tmp_path / "calls"
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        f"with open({str(calls)!r}, 'a') as f: print(json.dumps(sys.argv[1:]), file=f)\n"
        "if 'config' in sys.argv: print(json.dumps({'services': {'qdrant': {'image': 'qdrant/qdrant:v9.9'}}}))\n"
        "if 'logs' in sys.argv: print('started with password=hunter2')\n"
        "if 'weaviate' in sys.argv: sys.exit('pull failed for ' + os.environ['VECBENCH_PASSWORD'])\n",
        "utf-8",
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("VECBENCH_SERVICES", str(tmp_path / "state"))
    monkeypatch.delenv("VECBENCH_PASSWORD", raising=False)
    return calls


def _calls(file: Path) -> list[list[str]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_up_logs_and_down(docker: Path) -> None:
    assert why_no_docker() is None
    service = compose_up("qdrant")
    assert (service.url, service.version, service.how) == ("http://127.0.0.1:6333", "v9.9", "docker")
    assert len(service.secrets["api_key"]) > 20
    assert service.secrets["api_key"] not in repr(service)
    assert find("qdrant") == service
    up = next(call for call in _calls(docker) if "up" in call)
    assert up[3:] == ["--profile", "qdrant", "up", "--detach", "--wait", "qdrant"]
    assert service.secrets["api_key"] not in docker.read_text("utf-8")  # never on a command line
    assert compose_logs(service, 10).strip() == "started with password=***"
    compose_down(service)
    assert find("qdrant") is None
    assert _calls(docker)[-1] == ["volume", "rm", "--force", "vecbench_qdrant"]


def test_a_failure_is_ours_and_keeps_the_password(docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECBENCH_PASSWORD", "hush-hush")
    with pytest.raises(ConnectionFailed, match="pull failed for") as caught:
        compose_up("weaviate")
    assert "hush-hush" not in str(caught.value)
    assert find("weaviate") is None


def test_without_docker_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert why_no_docker() == "docker is not installed"
