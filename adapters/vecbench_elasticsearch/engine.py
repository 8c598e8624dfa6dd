"""Elasticsearch as a process of our own: a distribution that was unpacked, and a JDK."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.request import urlopen

from vecbench.errors import ConfigError
from vecbench.services.engine import Launch, LocalEngine, engines_folder, free_ports

__all__ = ["ElasticsearchEngine"]

_ACCOUNT = "vecbench"
_GET_IT = (
    "VERSION=8.19.16; FOLDER={folder}; "
    "mvn -B dependency:copy -Dartifact=org.elasticsearch.distribution.integ-test-zip:elasticsearch:$VERSION:zip "
    "-DoutputDirectory=$FOLDER -Dtransitive=false && unzip -q $FOLDER/elasticsearch-$VERSION.zip -d $FOLDER"
)


class ElasticsearchEngine(LocalEngine):
    """The newest `elasticsearch-*` in the folder of engines that a JDK here can run, or VECBENCH_ELASTICSEARCH_HOME.

    heap: of the JVM, as in "768m"; without it Elasticsearch takes half the machine's memory.
    """

    name: ClassVar[str] = "elasticsearch"
    start_seconds: ClassVar[float] = 120.0

    def __init__(self, heap: str = "768m") -> None:
        if not re.fullmatch(r"[1-9][0-9]*[mg]", str(heap)):
            raise ConfigError(f"elasticsearch: heap is a size like 768m or 4g, got {heap!r}")
        self._heap = heap

    def why_not(self) -> str | None:
        """A distribution, a JDK, and for root an account that is not root."""
        homes = _homes()
        if not homes:
            get_it = _GET_IT.format(folder=engines_folder())
            return f"no distribution of Elasticsearch in VECBENCH_ELASTICSEARCH_HOME or {engines_folder()}: {get_it}"
        if _choose() is None:
            return (
                f"{homes[0].name} needs a JDK of version {_needs(homes[0])} or newer, and ES_JAVA_HOME, JAVA_HOME and "
                "the java on PATH are none: apt install openjdk-17-jre-headless (for 8.x), temurin-21-jre (for 9.x)"
            )
        if os.geteuid() == 0 and not _account_exists():
            return f"Elasticsearch does not run as root; make an account for it: useradd --system -U {_ACCOUNT}"
        return None

    def launch(self, folder: Path) -> Launch:
        """Everything that it writes is below the folder; the distribution is only read."""
        chosen = _choose()
        assert chosen is not None  # noqa: S101  why_not was asked
        home, java = chosen
        config = folder / "config"
        for part in ("data", "logs", "tmp", "config/jvm.options.d"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for name in ("jvm.options", "log4j2.properties"):
            shutil.copyfile(home / "config" / name, config / name)
        (config / "jvm.options.d" / "heap.options").write_text(f"-Xms{self._heap}\n-Xmx{self._heap}\n", "utf-8")
        http, transport = free_ports(2)
        # JSON is YAML, so that no path needs quoting of its own.
        lines = [f"{key}: {json.dumps(value)}\n" for key, value in self.settings(home, folder, http, transport).items()]
        (config / "elasticsearch.yml").write_text("".join(lines), "utf-8")
        return Launch(
            command=[str(home / "bin" / "elasticsearch")],
            url=f"http://127.0.0.1:{http}",
            env={"ES_JAVA_HOME": str(java), "ES_PATH_CONF": str(config), "ES_TMPDIR": str(folder / "tmp")},
            cwd=folder,
            user=_ACCOUNT,
        )

    def settings(self, home: Path, folder: Path, http: int, transport: int) -> dict[str, Any]:
        """`elasticsearch.yml`. A setting of a module that the distribution lacks would stop the node."""
        made: dict[str, Any] = {
            "cluster.name": "vecbench",
            "node.name": "vecbench",
            "discovery.type": "single-node",
            "network.host": "127.0.0.1",
            "http.port": http,
            "transport.port": transport,
            "path.data": str(folder / "data"),
            "path.logs": str(folder / "logs"),
            "xpack.security.enabled": False,
            "cluster.routing.allocation.disk.threshold_enabled": False,  # a nearly full disk stops writes otherwise
            "indices.breaker.total.use_real_memory": False,  # a small heap is meant to be used
        }
        if (home / "modules" / "ingest-geoip").is_dir():
            made["ingest.geoip.downloader.enabled"] = False  # calls home
        return made

    def probe(self, launch_url: str) -> str:
        """Ready once every index that was there before can be searched again."""
        health = "/_cluster/health?wait_for_status=yellow&timeout=500ms"  # answers 408 while it is not
        with urlopen(launch_url + health, timeout=1) as answer:  # noqa: S310  our own http address
            answer.read()
        version = "/_nodes/_local?filter_path=nodes.*.version"
        with urlopen(launch_url + version, timeout=1) as answer:  # noqa: S310  our own http address
            nodes = json.load(answer)["nodes"]
        return str(next(iter(nodes.values()))["version"])


def _homes() -> list[Path]:
    """Distributions, the one to prefer first."""
    told = os.environ.get("VECBENCH_ELASTICSEARCH_HOME")
    found = [Path(told)] if told else sorted(engines_folder().glob("elasticsearch-*"), key=_version, reverse=True)
    return [home for home in found if (home / "bin" / "elasticsearch").is_file()]


def _version(home: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", home.name)]


def _needs(home: Path) -> int:
    """The oldest JDK that runs it. Told by a jar's name, because its folder may have any."""
    jar = next((home / "lib").glob("elasticsearch-[0-9]*.jar"), home)
    return 17 if _version(jar)[:1] <= [8] else 21


def _choose() -> tuple[Path, Path] | None:
    """A distribution and the JDK to run it with."""
    for home in _homes():
        for java in _javas(home):
            if (_java_version(java) or 0) >= _needs(home):
                return home, java
    return None


def _javas(home: Path) -> Iterator[Path]:
    """JDKs in the order in which Elasticsearch looks for them, then two more."""
    if told := os.environ.get("ES_JAVA_HOME"):
        yield Path(told)
    yield home / "jdk"
    yield home / "jdk.app" / "Contents" / "Home"
    if told := os.environ.get("JAVA_HOME"):
        yield Path(told)
    if found := shutil.which("java"):
        yield Path(found).resolve().parent.parent


def _java_version(java: Path) -> int | None:
    """The major version of a JDK, from the file `release` that every one has."""
    try:
        release = (java / "release").read_text("utf-8")
    except OSError:
        return None
    told = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release, re.MULTILINE)
    return int(told[1]) if told and (java / "bin" / "java").is_file() else None


def _account_exists() -> bool:
    try:
        pwd.getpwnam(_ACCOUNT)
    except KeyError:
        return False
    return True
