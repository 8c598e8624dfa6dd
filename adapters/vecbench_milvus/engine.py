"""The server of the `milvus` package (2.3.5, Linux on x86-64), started here as a process of its own."""

from __future__ import annotations

import importlib.util
import json
import lzma
import os
import platform
import re
import shutil
import tempfile
from contextlib import closing
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from vecbench.services.engine import Launch, LocalEngine, engines_folder, free_ports

__all__ = ["MilvusEngine"]

_PORTS = (
    "proxy_port",
    "metrics_port",
    "proxy_internal_port",
    "root_coord_port",
    "query_coord_port",
    "query_node_port",
    "index_coord_port",
    "index_node_port",
    "data_coord_port",
    "data_node_port",
    "etcd_port",
    "etcd_peer_port",
)
_ROLES = ("PROXY", "ROOTCOORD", "QUERYCOORD", "QUERYNODE", "INDEXCOORD", "INDEXNODE", "DATACOORD", "DATANODE")
_PLACEHOLDER = re.compile(r"\{\{ *(\w+)(?:\(\w+\))?(?:: *([^}]*?))? *}}")
# Settings of the server that differ from what the package says; none of them changes how it searches.
_SETTINGS = {
    "COMMON_GRACEFULSTOPTIMEOUT": "3",  # seconds; of 1800, all of which it waits
    "COMMON_SESSION_TTL": "10",  # seconds; a restart waits twice for the sessions of the last run to end
    # Milliseconds, of 1000, 1000 and 500: how long an empty collection takes to load.
    "QUERYCOORD_CHECKSEGMENTINTERVAL": "100",
    "QUERYCOORD_CHECKCHANNELINTERVAL": "100",
    "QUERYCOORD_DISTPULLINTERVAL": "50",
    # Seconds and milliseconds, of 10 each: how long a sealed segment, and its index, wait until they are used.
    "QUERYCOORD_UPDATENEXTTARGETINTERVAL": "1",
    "QUERYCOORD_CHECKINDEXINTERVAL": "500",
    "LOG_LEVEL": "warn",
}


class MilvusEngine(LocalEngine):
    """Every port is a free one, so that several servers can run side by side."""

    name: ClassVar[str] = "milvus"
    start_seconds: ClassVar[float] = 120.0
    stop_seconds: ClassVar[float] = 8.0  # it may hang at its end; what it acknowledged is in its log

    def why_not(self) -> str | None:
        """The package holds one binary, for one platform."""
        if platform.system() != "Linux" or platform.machine() != "x86_64":
            return "the package with its server is for Linux on x86-64; connect to a server by its url"
        if importlib.util.find_spec("milvus") is None:
            return "its server is not installed: pip install 'vecbench[milvus-local]'"
        return None

    def launch(self, folder: Path) -> Launch:
        """Write the configuration, from the package's template, into `folder`."""
        data = _package()
        binaries = _unpacked(data / "bin")
        # The health page must be found from the url alone: its port is the next one.
        ports = dict(zip(_PORTS, [*free_ports(2, consecutive=True), *free_ports(len(_PORTS) - 2)], strict=True))
        values = {
            **{key: str(port) for key, port in ports.items()},
            "etcd_log_path": str(folder / "etcd.log"),
            "etcd_data_dir": str(folder / "etcd"),
            "local_storage_dir": str(folder / "files"),
            "rocksmq_data_dir": str(folder / "rocksmq"),
            "system_log_path": "",
        }
        template = (data / "config.yaml.template").read_text("utf-8")
        configuration = folder / "configs"
        configuration.mkdir(exist_ok=True)
        (folder / "logs").mkdir(exist_ok=True)
        filled = _PLACEHOLDER.sub(lambda found: values.get(found[1], found[2] or ""), template)
        (configuration / "milvus.yaml").write_text(filled, "utf-8")
        shutil.copy(data / "glog.conf", configuration)
        client, peer = (f"http://127.0.0.1:{ports[key]}" for key in ("etcd_port", "etcd_peer_port"))
        etcd = {
            "name": "default",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }
        (configuration / "etcd.yaml").write_text(json.dumps(etcd), "utf-8")  # JSON is YAML
        env = {
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(ports["metrics_port"]),
            "MILVUSCONF": str(configuration),
            "ETCD_CONFIG_PATH": str(configuration / "etcd.yaml"),
            "LD_LIBRARY_PATH": f"{binaries}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":"),
            **{f"{role}_IP": "127.0.0.1" for role in _ROLES},
            **_SETTINGS,
        }
        url = f"http://127.0.0.1:{ports['proxy_port']}"
        return Launch(command=[str(binaries / "milvus"), "run", "standalone"], url=url, env=env, cwd=folder)

    def probe(self, launch_url: str) -> str:
        """Healthy, and answering at the port that clients use."""
        port = urlsplit(launch_url).port
        assert port is not None  # noqa: S101  of `launch`
        if _page(port + 1, "/healthz") != b"OK":
            raise ConnectionError("not healthy yet")
        if json.loads(_page(port, "/v1/vector/collections"))["code"] != 200:
            raise ConnectionError("not serving yet")
        return version("milvus")


def _page(port: int, path: str) -> bytes:
    with closing(HTTPConnection("127.0.0.1", port, timeout=0.9)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read()


def _package() -> Path:
    found = importlib.util.find_spec("milvus")
    assert found is not None  # noqa: S101  `why_not` was asked
    assert found.origin is not None  # noqa: S101  a file
    return Path(found.origin).parent / "data"


def _unpacked(packed: Path) -> Path:
    """The folder of the unpacked binaries (250 MB), made once for all servers of this version."""
    home = engines_folder() / f"milvus-{version('milvus')}"
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix="milvus-", dir=home.parent))
        try:
            for source in packed.glob("*.lzma"):
                with lzma.open(source) as compressed, (draft / source.stem).open("wb") as out:
                    shutil.copyfileobj(compressed, out, 1 << 20)
                (draft / source.stem).chmod(0o755)
            draft.chmod(0o755)
            draft.rename(home)
        except OSError:
            if not home.exists():  # else another process was faster
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return home
