"""An add that was stopped, by an error or by a kill at any moment, goes on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbench import connect
from vecbench.collection import Collection
from vecbench.memory import MemoryStore
from vecbench.rag import adding
from vecbench.rag.index import ChunkIndex, open_collection

from .adds import Digests, Lines, asked, documents, kept, new_index


class Stop(BaseException):
    """As sudden as a kill, for a test in one process."""


def test_what_a_stopped_add_wrote_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    index = new_index()
    monkeypatch.setattr(adding, "_CHUNKS", 2)
    breaking: Any = StopsAt(index.collection, 2)
    document = documents({"a": "\n".join("abcdefg")})
    with pytest.raises(Stop):
        ChunkIndex(breaking, index.embedder, index.splitter).add(document, origin="o")
    asked(index)
    report = index.add(document, origin="o")
    assert (report.added, report.chunks_kept, report.chunks_written, asked(index)) == (1, 4, 3, ["e", "f", "g"])


class StopsAt:
    """A collection that ends at its nth change."""

    def __init__(self, collection: Collection, at: int) -> None:
        self.collection, self.left = collection, at

    def __getattr__(self, name: str) -> Any:
        if name in {"upsert", "delete"}:
            self.left -= 1
            if self.left < 0:
                raise Stop
        return getattr(self.collection, name)


_TEXTS = st.dictionaries(st.sampled_from("abcd"), st.lists(st.sampled_from("uvwxyz"), max_size=5).map("\n".join))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_TEXTS, st.integers(0, 4), st.booleans()), max_size=4), _TEXTS)
def test_whatever_was_stopped_before_the_end_is_what_one_add_makes(
    stopped: list[tuple[dict[str, str], int, bool]], last: dict[str, str]
) -> None:
    embedder = Digests()
    collection = open_collection(MemoryStore(), "c", embedder)
    for texts, at, prune in stopped:
        breaking: Any = StopsAt(collection, at)
        with suppress(Stop):
            ChunkIndex(breaking, embedder, Lines()).add(documents(texts), origin="o", prune=prune)
    ChunkIndex(collection, embedder, Lines()).add(documents(last), origin="o", prune=True)
    fresh = open_collection(MemoryStore(), "c", embedder)
    ChunkIndex(fresh, embedder, Lines()).add(documents(last), origin="o")
    assert kept(collection) == kept(fresh)


# Adds a folder, and kills itself when so many tokens have been embedded. A kill -9 leaves no time for anything.
_ADD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[5])
from adds import Digests, Lines
from vecbench import connect
from vecbench.rag import adding
from vecbench.rag.index import ChunkIndex, open_collection
from vecbench.rag.types import Document

store, path, folder, at = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
adding._CHUNKS = 20

def progress(now):
    if now.tokens >= at:
        os.kill(os.getpid(), signal.SIGKILL)

embedder = Digests()
with connect(store, path=path) as opened:
    index = ChunkIndex(open_collection(opened, "c", embedder), embedder, Lines(), count_tokens=lambda text: 1)
    files = sorted(folder.iterdir())
    report = index.add((Document(f.read_text(), f.name) for f in files), origin="o", prune=True, progress=progress)
    print(len(embedder.asked))
"""


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
def test_killed_half_way_and_added_again(tmp_path: Path, store: str) -> None:
    folder, path = tmp_path / "docs", tmp_path / "kb"
    folder.mkdir()
    texts = {f"{i:02}": "\n".join(f"file {i} line {j}" for j in range(9)) for i in range(20)}
    for name, text in texts.items():
        (folder / name).write_text(text)

    def add(at: int) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-c", _ADD, store, str(path), str(folder), str(at), str(Path(__file__).parent)]
        return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)

    held = []
    # The second run begins where the first was killed: it embeds what is left.
    for at in (random.randint(30, 90), random.randint(30, 60)):  # noqa: S311  any moment will do
        done = add(at)
        assert done.returncode == -signal.SIGKILL, done.stderr
        with connect(store, path=path) as opened:
            held.append(opened.get_collection("c").count())
    assert 0 < held[0] < held[1] < 180
    done = add(10**6)
    assert (done.returncode, done.stdout.strip()) == (0, str(180 - held[1])), done.stderr

    embedder = Digests()
    with connect(store, path=path) as opened:
        collection = open_collection(opened, "c", embedder, create=False)
        fresh = open_collection(MemoryStore(), "c", embedder)
        ChunkIndex(fresh, embedder, Lines()).add(documents(texts), origin="o")
        assert kept(collection) == kept(fresh)
        embedder.asked.clear()
        index = ChunkIndex(collection, embedder, Lines())
        texts["07"] = texts["07"].replace("line 4", "line four")
        report = index.add(documents(texts), origin="o")
        assert embedder.asked == ["file 7 line four"]
        assert (report.changed, report.unchanged, report.chunks_embedded, report.chunks_deleted) == (1, 19, 1, 1)
        (found,) = collection.search(embedder.embed_queries(["file 7 line four"]), 1, include=("documents",)).hits()
        assert (found.document, round(found.distance, 5)) == ("file 7 line four", 0)
        (found,) = collection.search(embedder.embed_queries(["file 7 line 4"]), 1, include=("documents",)).hits()
        assert found.document != "file 7 line 4"
        assert collection.count() == 180
