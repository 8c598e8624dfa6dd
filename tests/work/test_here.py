"""Work in parts, in this process; what a cluster would say is in test_cluster.py."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vecbench.cli.main import app
from vecbench.embed import MiniLM, fixed_model
from vecbench.embed.blocks import BLOCK_TEXTS, BlockEmbedder
from vecbench.errors import ConfigError, EmbedderError
from vecbench.work import Here, open_workers

from .jobs import SPEC, make, square


def test_parts_are_drawn_as_they_are_needed() -> None:
    drawn: list[int] = []

    def parts() -> Iterator[int]:
        for i in range(5):
            drawn.append(i)
            yield i

    with open_workers(None) as workers:
        assert isinstance(workers, Here)
        results = workers.map(square, parts())
        assert next(results) == 0
        assert drawn == [0]
        assert list(results) == [1, 4, 9, 16]


def test_embed_on_here_is_embedding_in_blocks(tmp_path: Path, minilm: MiniLM) -> None:
    texts = [f"line {i} {'word ' * (i % 9)}" for i in range(700)]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    out = tmp_path / "a.npy"
    done = CliRunner().invoke(
        app, ["embed", str(tmp_path / "a.txt"), "--out", str(out), "--no-cache", "--on", "here", "--quiet"]
    )
    assert done.exit_code == 0, done.output
    expected = BlockEmbedder(functools.partial(fixed_model, threads=1), minilm.spec, Here()).embed_documents(texts)
    assert np.load(out).tobytes() == expected.tobytes()
    refused = CliRunner().invoke(app, ["embed", str(tmp_path / "a.txt"), "--out", str(tmp_path / "b.npy"), "--on", "x"])
    assert refused.exit_code == 2
    assert "--on takes ray://host:port" in refused.stderr


@pytest.mark.parametrize("on", ["localhost:6379", "http://user:secret@host", ""])
def test_another_address_is_refused(on: str) -> None:
    with pytest.raises(ConfigError, match="--on takes ray://host:port") as caught:
        open_workers(on)
    assert "secret" not in str(caught.value)


def test_blocks_hold_each_text_once_and_vectors_stand_in_the_order_of_the_texts() -> None:
    texts = [f"{'x' * (i % 700)}{i % 600}" for i in range(1500)]
    told: list[tuple[int, int]] = []
    embedder = BlockEmbedder(make, SPEC, Here())
    vectors = embedder.embed_documents(texts, progress=lambda *at: told.append(at))
    unique = list(dict.fromkeys(texts))
    assert told[-1] == (len(unique), len(unique))
    assert len(told) == -(-len(unique) // BLOCK_TEXTS)
    assert vectors[:, 0].tolist() == [len(text) for text in texts]
    first = unique[:BLOCK_TEXTS]
    assert set(vectors[[texts.index(t) for t in first], 1]) == {sum(map(len, first))}
    assert embedder.embed_queries([]).shape == (0, 4)
    with pytest.raises(EmbedderError, match=r"texts\[1\]"):
        embedder.embed_documents(["a", 1])  # type: ignore[list-item]  # on purpose


def test_a_block_that_fits_one_call_is_that_call(minilm: MiniLM) -> None:
    texts = [f"text number {i}" for i in range(40)]
    ours = BlockEmbedder(lambda: minilm, minilm.spec, Here())
    assert np.array_equal(ours.embed_documents(texts), minilm.embed_documents(texts))
    with pytest.warns(UserWarning, match="unknown to all-MiniLM"):
        ours.embed_queries(["龘龘龘龘"])


def test_an_embedder_of_another_dimension_is_refused(minilm: MiniLM) -> None:
    with pytest.raises(EmbedderError, match="shape"):
        BlockEmbedder(lambda: minilm, SPEC, Here()).embed_documents(["a"])
