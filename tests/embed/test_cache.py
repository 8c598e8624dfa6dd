from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecbench.embed import CacheDamagedWarning, CachedEmbedder, EmbedderSpec
from vecbench.embed.spec import Progress
from vecbench.errors import EmbedderError
from vecbench.types import Vectors

SPEC = EmbedderSpec(name="digest", dim=8, query_prefix="q:")


def digest(text: str) -> Vectors:
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint32).astype(np.float32)


class DigestEmbedder:
    """Vectors that anyone can check, and a record of what was asked."""

    def __init__(self, spec: EmbedderSpec = SPEC) -> None:
        self.spec = spec
        self.asked: list[str] = []

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        self.asked += texts
        if progress:
            progress(50, 100)
            progress(100, 100)
        return np.stack([digest(text) for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        return np.stack([digest(self.spec.query_prefix + text) for text in texts])


def expected(texts: Sequence[str]) -> Vectors:
    return np.stack([digest(text) for text in texts])


def shard_files(directory: Path, suffix: str) -> list[Path]:
    return sorted((directory / SPEC.fingerprint).glob(f"*{suffix}"))


def test_computes_each_text_once_and_across_processes(tmp_path: Path) -> None:
    inner = DigestEmbedder()
    cached = CachedEmbedder(inner, tmp_path)
    texts = [f"text {n}" for n in range(50)]
    assert np.array_equal(cached.embed_documents([*texts, *texts]), expected([*texts, *texts]))
    assert inner.asked == texts
    assert np.array_equal(cached.embed_documents(["new", *texts[::-1]]), expected(["new", *texts[::-1]]))
    assert inner.asked == [*texts, "new"]
    other = DigestEmbedder()
    again = CachedEmbedder(other, tmp_path)
    found = again.embed_documents(texts)
    assert np.array_equal(found, expected(texts))
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert other.asked == []
    assert len(again) == 51
    assert again.spec is SPEC


def test_queries_are_not_documents(tmp_path: Path) -> None:
    cached = CachedEmbedder(DigestEmbedder(), tmp_path)
    document, query = cached.embed_documents(["same"]), cached.embed_queries(["same"])
    assert np.array_equal(document, expected(["same"]))
    assert np.array_equal(query, expected(["q:same"]))
    assert np.array_equal(cached.embed_queries(["same"]), query)


def test_embedders_do_not_mix(tmp_path: Path) -> None:
    CachedEmbedder(DigestEmbedder(), tmp_path).embed_documents(["a"])
    other = DigestEmbedder(EmbedderSpec(name="digest", dim=8, revision="2"))
    CachedEmbedder(other, tmp_path).embed_documents(["a"])
    assert other.asked == ["a"]


def test_progress_counts_texts(tmp_path: Path) -> None:
    cached = CachedEmbedder(DigestEmbedder(), tmp_path)
    cached.embed_documents(["a", "b"])
    told: list[tuple[int, int]] = []
    cached.embed_documents(["a", "b", *map(str, range(4098))], progress=lambda done, total: told.append((done, total)))
    assert told[0] == (2, 4100)  # the two that were known
    assert (2 + 1024, 4100) in told  # half of the first block of 2,048
    assert told[-1] == (4100, 4100)
    assert told == sorted(told)
    assert cached.embed_documents([]).shape == (0, 8)


def test_many_small_writes_stay_few_shards(tmp_path: Path) -> None:
    cached = CachedEmbedder(DigestEmbedder(), tmp_path)
    texts = [f"text {n}" for n in range(100)]
    for text in texts:
        cached.embed_documents([text])
    assert len(shard_files(tmp_path, ".npy")) <= 7  # log2(100)
    assert len(shard_files(tmp_path, ".keys")) == len(shard_files(tmp_path, ".npy"))
    other = DigestEmbedder()
    assert np.array_equal(CachedEmbedder(other, tmp_path).embed_documents(texts), expected(texts))
    assert other.asked == []


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", [".npy", ".keys"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_shard_is_dropped_never_returned(tmp_path: Path, suffix: str, damage: str) -> None:
    first, second = [f"first {n}" for n in range(40)], [f"second {n}" for n in range(10)]
    writer = CachedEmbedder(DigestEmbedder(), tmp_path)
    writer.embed_documents(first)
    writer.embed_documents(second)
    target = shard_files(tmp_path, suffix)[0]
    if damage == "flip":
        flip(target, -5)
    elif damage == "cut":
        target.write_bytes(target.read_bytes()[:-7])
    else:
        target.unlink()
    inner = DigestEmbedder()
    cached = CachedEmbedder(inner, tmp_path)
    with pytest.warns(CacheDamagedWarning, match=rf"{target.stem} was dropped .* its 40 vectors"):
        found = cached.embed_documents([*first, *second])
    assert np.array_equal(found, expected([*first, *second]))
    assert inner.asked == first
    healed = DigestEmbedder()  # no warning any more, nothing computed
    assert np.array_equal(CachedEmbedder(healed, tmp_path).embed_documents([*first, *second]), found)
    assert healed.asked == []


def test_merging_does_not_carry_damage_on(tmp_path: Path) -> None:
    CachedEmbedder(DigestEmbedder(), tmp_path).embed_documents(["a", "b"])
    flip(shard_files(tmp_path, ".npy")[0], -1)
    with pytest.warns(CacheDamagedWarning):
        CachedEmbedder(DigestEmbedder(), tmp_path).embed_documents(["c", "d", "e"])
    inner = DigestEmbedder()
    assert np.array_equal(
        CachedEmbedder(inner, tmp_path).embed_documents(["a", "b", "c", "d", "e"]), expected(["a", "b", "c", "d", "e"])
    )
    assert inner.asked == ["a", "b"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b'{"format":1,"embedder":{},"shards":[{}]}'])
def test_a_damaged_manifest_is_put_aside(tmp_path: Path, content: bytes) -> None:
    CachedEmbedder(DigestEmbedder(), tmp_path).embed_documents(["a"])
    manifest = tmp_path / SPEC.fingerprint / "manifest.json"
    manifest.write_bytes(content)
    inner = DigestEmbedder()
    with pytest.warns(CacheDamagedWarning, match=r"manifest.json is damaged"):
        assert np.array_equal(CachedEmbedder(inner, tmp_path).embed_documents(["a"]), expected(["a"]))
    assert inner.asked == ["a"]
    assert manifest.with_suffix(".damaged").read_bytes() == content
    assert len(CachedEmbedder(DigestEmbedder(), tmp_path)) == 1


def test_a_manifest_of_others_is_left_alone(tmp_path: Path) -> None:
    CachedEmbedder(DigestEmbedder(), tmp_path).embed_documents(["a"])
    manifest = tmp_path / SPEC.fingerprint / "manifest.json"
    content = json.loads(manifest.read_bytes())
    for change, message in (
        ({"format": 2}, "format 2, this vecbench reads 1"),
        ({"embedder": {"name": "x"}}, "belongs to another embedder, 'x'"),
    ):
        manifest.write_text(json.dumps({**content, **change}))
        with pytest.raises(EmbedderError, match=message):
            CachedEmbedder(DigestEmbedder(), tmp_path).embed_documents(["a"])


def test_what_an_embedder_gives_is_checked_before_it_is_kept(tmp_path: Path) -> None:
    class Broken(DigestEmbedder):
        answer: object = None

        def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
            return self.answer  # type: ignore[return-value]  # a broken embedder is what is tested

    inner = Broken()
    cached = CachedEmbedder(inner, tmp_path)
    for answer, message in (
        (np.zeros((1, 8)), r"gave shape \(1, 8\) for 2 texts"),
        (np.zeros((2, 7)), r"gave shape \(2, 7\)"),
        ([[1.0] * 8, [1.0]], "unequal length"),
        (np.array([[0.0] * 8, [np.nan] * 8]), "NaN or infinity for text 1 of 2"),
    ):
        inner.answer = answer
        with pytest.raises(EmbedderError, match=message):
            cached.embed_documents(["a", "b"])
    assert len(cached) == 0


def test_external_vectors_have_no_texts(tmp_path: Path) -> None:
    with pytest.raises(EmbedderError, match="vectors from outside"):
        CachedEmbedder(DigestEmbedder(EmbedderSpec.external("a" * 64, 8)), tmp_path)


def test_threads_share_one_cache(tmp_path: Path) -> None:
    cached = CachedEmbedder(DigestEmbedder(), tmp_path)
    failures: list[str] = []

    def work(start: int) -> None:
        for n in range(start, start + 30):
            texts = [f"text {n}", f"text {n + 1}"]
            if not np.array_equal(cached.embed_documents(texts), expected(texts)):
                failures.append(f"wrong vectors for {texts}")

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(cached) == 51


class Crash(BaseException):
    """Nothing catches it, as nothing catches a power cut."""


def test_a_crash_before_any_step_of_a_write_leaves_the_cache_whole(tmp_path: Path) -> None:
    first, second = ["a", "b", "c"], ["d", "e", "f", "g"]  # as many that the second write merges the first
    for step in range(1, 100):
        directory = tmp_path / str(step)
        CachedEmbedder(DigestEmbedder(), directory).embed_documents(first)
        steps = iter(range(1, step + 1))

        def crashing(real: Any, steps: Iterator[int] = steps, last: int = step) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                if next(steps) == last:
                    raise Crash
                return real(*args, **kwargs)

            return call

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", crashing(os.fsync))
            for name in ("replace", "unlink"):
                patch.setattr(Path, name, crashing(getattr(Path, name)))
            try:
                CachedEmbedder(DigestEmbedder(), directory).embed_documents(second)
            except Crash:
                crashed = True
            else:
                crashed = False
        inner = DigestEmbedder()
        again = CachedEmbedder(inner, directory)  # a CacheDamagedWarning would be an error
        assert np.array_equal(again.embed_documents([*first, *second]), expected([*first, *second]))
        assert inner.asked == [] or (crashed and inner.asked == second)
        assert {path.name for path in (directory / SPEC.fingerprint).iterdir()} >= {"manifest.json", "lock"}
        if not crashed:
            assert step > 9  # three files, of which each is synced, renamed, and its directory synced
            return
    pytest.fail("the write never came to its end")


WRITER = """
import hashlib, random, sys
import numpy as np
from vecbench.embed import CachedEmbedder, EmbedderSpec

class Digest:
    spec = EmbedderSpec(name="digest", dim=8, query_prefix="q:")
    def embed_documents(self, texts, *, progress=None):
        rows = [np.frombuffer(hashlib.sha256(t.encode()).digest(), np.uint32) for t in texts]
        return np.stack(rows).astype(np.float32)

cached, run, sizes = CachedEmbedder(Digest(), sys.argv[1]), sys.argv[2], random.Random(sys.argv[2])
for call in range(100_000):
    count = sizes.randint(1, 40)
    cached.embed_documents([f"{run} {call} {n}" for n in range(count)])
    print(call, count, flush=True)
"""


def test_kill_at_any_moment_loses_nothing_that_was_returned(tmp_path: Path) -> None:
    moments = random.Random(5)  # noqa: S311 - when to kill, no secret
    returned: list[str] = []
    for run in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(run)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(moments.randint(1, 20))]
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(moments.uniform(0, 0.02))
            child.kill()
            lines += child.stdout.readlines()
        for line in lines:
            call, count = map(int, line.split())
            returned += [f"{run} {call} {n}" for n in range(count)]
    inner = DigestEmbedder()  # a CacheDamagedWarning would be an error
    cached = CachedEmbedder(inner, tmp_path)
    assert np.array_equal(cached.embed_documents(returned), expected(returned))
    assert inner.asked == []
    assert len(returned) >= 8
