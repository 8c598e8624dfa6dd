"""The fixed model, and a Ray cluster of several nodes on the loopback address."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vecbench.embed import MiniLM, fixed_model


@pytest.fixture(scope="session")
def minilm() -> MiniLM:
    return fixed_model()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without CPUs, that serves clients, and two nodes of one CPU each; `.url` is where to connect.

    127.0.0.2, because Ray takes 127.0.0.1 for "the address of this machine" and looks elsewhere.
    """
    root = str(Path(__file__).resolve().parents[2])  # the nodes import the tests' own functions
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", root)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_health_check_period_ms", "500")
        yield from _started()


def _started() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    common = {"node_ip_address": "127.0.0.2", "object_store_memory": 80_000_000}
    made = Cluster(
        initialize_head=True,
        head_node_args={**common, "num_cpus": 0, "include_dashboard": False, "ray_client_server_port": port},
    )
    made.workers = [made.add_node(**common, num_cpus=1) for _ in range(2)]
    made.url = f"ray://127.0.0.2:{port}"
    yield made
    made.shutdown()
