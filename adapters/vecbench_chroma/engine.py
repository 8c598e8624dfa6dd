"""The server of the installed package as a process of its own: `chroma run` on a free loopback port."""

from __future__ import annotations

import importlib.util
import json
import sys
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from vecbench.services.engine import Launch, LocalEngine, free_ports

__all__ = ["ChromaEngine"]


class ChromaEngine(LocalEngine):
    """Its data lie in the folder itself, so that the embedded engine can open the same folder afterwards."""

    name: ClassVar[str] = "chroma"
    start_seconds: ClassVar[float] = 60.0
    stop_seconds: ClassVar[float] = 20.0

    def why_not(self) -> str | None:
        """Missing only where the package is."""
        if importlib.util.find_spec("chromadb") is None:
            return "the package chromadb is not installed: pip install 'vecbench[chroma]'"
        return None

    def launch(self, folder: Path) -> Launch:
        """By the interpreter, not by the `chroma` script: that one need not be on the path."""
        (port,) = free_ports(1)
        program = "import chromadb.cli.cli as c; c.app()"
        return Launch(
            command=[
                *[sys.executable, "-P", "-c", program, "run"],
                *["--path", str(folder), "--host", "127.0.0.1", "--port", str(port)],
            ],
            url=f"http://127.0.0.1:{port}",
            env={"ANONYMIZED_TELEMETRY": "False"},
            cwd=folder,
        )

    def probe(self, launch_url: str) -> str:
        """The package's version once the server's heart beats: the server itself answers 1.0.0 in every release."""
        with urllib.request.urlopen(f"{launch_url}/api/v2/heartbeat", timeout=2) as answer:  # noqa: S310  our own URL
            json.load(answer)["nanosecond heartbeat"]
        return version("chromadb")
