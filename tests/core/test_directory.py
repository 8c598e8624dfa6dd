"""A store's directory has one holder, who may be closed from any thread."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from vecbench import connect
from vecbench.errors import ConfigError, ConnectionFailed


@pytest.mark.parametrize("name", ["faiss", "qdrant", "chroma"])
def test_a_store_closed_by_another_thread_gives_its_directory_back(name: str, tmp_path: Path) -> None:
    store = connect(name, path=tmp_path / "kb")
    with pytest.raises(ConnectionFailed, match="open already"):
        connect(name, path=tmp_path / "kb")
    closing = threading.Thread(target=store.close)
    closing.start()
    closing.join()
    connect(name, path=tmp_path / "kb").close()


@pytest.mark.parametrize("name", ["faiss", "qdrant", "chroma"])
def test_a_file_is_no_directory(name: str, tmp_path: Path) -> None:
    (tmp_path / "kb").write_text("a file", "utf-8")
    with pytest.raises(ConfigError, match="is a file"):
        connect(name, path=tmp_path / "kb")
