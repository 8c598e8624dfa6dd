"""Gets the engines that no Python package carries, once per machine, each checked against a hash written down here.

    python tests/engines/get.py                    all of them
    python tests/engines/get.py weaviate           one

They go to the folder where vecbench looks for engines (VECBENCH_ENGINES, else a cache). Needs `go` for weaviate and the
schema of compose files, `mvn` and a JDK for elasticsearch, and the package index for the OpenSSL 1.1 of redis-stack.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from vecbench.services.engine import engines_folder

WEAVIATE = ("1.39.0", "h1:8RIQWPg1QGgMA0aUYtZXgYbfDHeE6watZ277sBZeW3A=")
COMPOSE_GO = ("2.10.2", "h1:USa1NUbDcl/cjb8T9iwnuFsnO79H+2ho2L5SjFKz3uI=")
ELASTICSEARCH = ("8.19.16", "c3d95992e27741b33a8057118379cda8b17cfda9e46ff4ec25e3f5b94fc22b52")
# The last wheel of psycopg2-binary with OpenSSL 1.1 inside; it is unpacked, not installed.
OPENSSL = ("2.9.5", "bcda1c84a1c533c528356da5490d464a139b6e84eb77cc0b432e38c5c6dd7882")


def _run(*command: str, **environment: str) -> str:
    print("  " + " ".join(command), flush=True)
    done = subprocess.run(command, env={**os.environ, **environment}, text=True, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed with exit code {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


def _module(path: str, version: str, expected: str) -> Path:
    """A Go module, from the module proxy; the sum is the one that Go's own checksum database has."""
    told = json.loads(_run("go", "mod", "download", "-json", f"{path}@v{version}"))
    if told["Sum"] != expected:
        sys.exit(f"{path} v{version} has the sum {told['Sum']}, expected {expected}")
    return Path(told["Dir"])


def _sha256(file: Path, expected: str) -> None:
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != expected:
        sys.exit(f"{file.name} has sha256 {found}, expected {expected}")


def _unpack(archive: Path, into: Path, only: str = "") -> None:
    """Unpack with file modes; a name that leads out of the folder is refused."""
    with zipfile.ZipFile(archive) as z:
        for member in z.infolist():
            target = (into / member.filename).resolve()
            if not target.is_relative_to(into.resolve()):
                sys.exit(f"{archive.name} holds {member.filename!r}, which leads out of its folder")
            if member.filename.startswith(only):
                z.extract(member, into)
                if (mode := member.external_attr >> 16 & 0o777) and not member.is_dir():
                    target.chmod(mode)


def weaviate(home: Path) -> None:
    """Weaviate's server, built by `go install` from its published module version; minutes on a cold cache."""
    version, sum_ = WEAVIATE
    _module("github.com/weaviate/weaviate", version, sum_)
    package = f"github.com/weaviate/weaviate/cmd/weaviate-server@v{version}"
    _run("go", "install", "-trimpath", "-ldflags=-s -w", package, GOBIN=str(home), CGO_ENABLED="0", GOTOOLCHAIN="local")


def elasticsearch(home: Path) -> None:
    """The vendor's reduced distribution for tests, from Maven Central."""
    version, sha256 = ELASTICSEARCH
    artifact = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{version}:zip"
    _run(
        "mvn",
        "-B",
        "-q",
        "dependency:copy",
        f"-Dartifact={artifact}",
        f"-DoutputDirectory={home}",
        "-Dtransitive=false",
    )
    archive = home / f"elasticsearch-{version}.zip"
    _sha256(archive, sha256)
    _unpack(archive, home)
    archive.unlink()
    unpacked = home / f"elasticsearch-{version}"
    for entry in unpacked.iterdir():
        entry.rename(home / entry.name)
    unpacked.rmdir()
    for program in (home / "bin").iterdir():
        program.chmod(0o755)


def openssl(home: Path) -> None:
    """The libraries that redis-stack's server is linked to."""
    version, sha256 = OPENSSL
    pinned = home / "requirements.txt"
    pinned.write_text(f"psycopg2-binary=={version} --hash=sha256:{sha256}\n", "utf-8")
    platform = ("--python-version", "3.11", "--platform", "manylinux2014_x86_64", "--only-binary", ":all:")
    _run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", *platform, "-d", str(home), "-r", str(pinned))
    (wheel,) = home.glob("*.whl")
    _sha256(wheel, sha256)
    _unpack(wheel, home, only="psycopg2_binary.libs/")
    wheel.unlink()
    for library in ("libssl", "libcrypto"):
        (found,) = (home / "psycopg2_binary.libs").glob(f"{library}-*.so.1.1")
        (home / f"{library}.so.1.1").symlink_to(found.relative_to(home))


def compose_spec(home: Path) -> None:
    """The schema of compose files, from the module that docker compose itself reads them with."""
    version, sum_ = COMPOSE_GO
    module = _module("github.com/compose-spec/compose-go/v2", version, sum_)
    shutil.copyfile(module / "schema" / "compose-spec.json", home / "compose-spec.json")


ENGINES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "weaviate": (f"weaviate-{WEAVIATE[0]}", weaviate),
    "elasticsearch": (f"elasticsearch-{ELASTICSEARCH[0]}", elasticsearch),
    "redisearch": ("openssl-1.1", openssl),
    "compose": (f"compose-spec-{COMPOSE_GO[0]}", compose_spec),
}


def account(name: str = "vecbench") -> None:
    """Elasticsearch refuses to run as root: make the account that it runs as then."""
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(name)
        except KeyError:
            _run("useradd", "--system", "-U", name)


def main() -> None:
    """Get what is not there yet; each is complete or absent, whatever interrupts this."""
    wanted = sys.argv[1:] or list(ENGINES)
    if unknown := set(wanted) - set(ENGINES):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(ENGINES)}")
    root = engines_folder()
    root.mkdir(parents=True, exist_ok=True)
    if "elasticsearch" in wanted:
        account()
    for name in wanted:
        folder, get = ENGINES[name]
        if (root / folder).is_dir():
            print(f"{name}: {root / folder} is there")
            continue
        print(f"{name}: to {root / folder}", flush=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder}-", dir=root) as draft:
            home = Path(draft) / folder
            home.mkdir()
            get(home)
            home.replace(root / folder)


if __name__ == "__main__":
    main()
