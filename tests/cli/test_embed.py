from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vecbench.embed import MINILM_SPEC, EmbedderSpec, MiniLM
from vecbench.embed.minilm import MINILM_MODEL
from vecbench.embed.weights import find_model

Command = Callable[..., subprocess.CompletedProcess[str]]
TEXTS = ["A cat sleeps in the sun.", "Stock markets fell.", "A cat sleeps in the sun.\x0bstill line three"]


@pytest.fixture(scope="session")
def minilm() -> MiniLM:
    return MiniLM(find_model(MINILM_MODEL))


def _load(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    found: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = np.load(path, allow_pickle=False)
    return found


def test_lines_become_rows_with_a_card(vecbench: Command, tmp_path: Path, minilm: MiniLM) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(TEXTS).encode() + b"\n")
    done = vecbench("embed", "a.txt", "--out", "v.npy", "--no-cache", "--ids")
    assert done.returncode == 0, done.stderr
    vectors = _load(tmp_path / "v.npy")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, minilm.embed_documents(TEXTS), atol=1e-6)
    card = json.loads((tmp_path / "v.json").read_text("utf-8"))
    assert card["count"] == 3
    assert card["vectors_sha256"] == hashlib.sha256(vectors.tobytes()).hexdigest()
    assert EmbedderSpec.from_dict(card["embedder"]) == MINILM_SPEC
    assert card["fingerprint"] == MINILM_SPEC.fingerprint
    assert card["unknown_token_share"] == 0.0
    ids = [json.loads(line) for line in (tmp_path / "v.ids.txt").read_text("utf-8").splitlines()]
    assert ids == ["a.txt:1", "a.txt:2", "a.txt:3"]


def test_json_lines_from_stdin_with_ids_through_the_cache(vecbench: Command, tmp_path: Path, minilm: MiniLM) -> None:
    rows = [{"id": 7, "body": TEXTS[1]}, {"id": "sieben", "body": TEXTS[0]}]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    args = ["embed", "-", "--field", "body", "--id-field", "id"]
    files = find_model(MINILM_MODEL)
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "VECBENCH_MODEL_DIR": str(files.weights.parent)}
    assert vecbench(*args, "--out", "v.npy", stdin=data, **environment).returncode == 0
    np.testing.assert_allclose(_load(tmp_path / "v.npy"), minilm.embed_documents([TEXTS[1], TEXTS[0]]), atol=1e-6)
    assert (tmp_path / "v.ids.txt").read_text("utf-8") == '"7"\n"sieben"\n'
    assert vecbench(*args, "--out", "w.npy", stdin=data, **environment).returncode == 0
    assert (tmp_path / "v.npy").read_bytes() == (tmp_path / "w.npy").read_bytes()


def test_unknown_tokens_are_a_loud_warning(vecbench: Command, tmp_path: Path) -> None:
    done = vecbench("embed", "-", "--out", "v.npy", "--no-cache", stdin="龘靐齉 爩麤灪\n".encode())
    assert done.returncode == 0
    assert "warning:" in done.stderr
    assert "are unknown to" in done.stderr
    assert json.loads((tmp_path / "v.json").read_text("utf-8"))["unknown_token_share"] > 0.5


@pytest.mark.parametrize("existing", ["v.npy", "v.json"])
def test_nothing_is_overwritten_unless_forced(vecbench: Command, tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("precious")
    done = vecbench("embed", "-", "--out", "v.npy", "--no-cache", stdin=b"text\n")
    assert done.returncode == 2
    assert f"{existing} exists" in done.stderr
    assert (tmp_path / existing).read_text() == "precious"
    assert vecbench("embed", "-", "--out", "v.npy", "--no-cache", "--force", stdin=b"text\n").returncode == 0
    assert _load(tmp_path / "v.npy").shape == (1, 384)


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (b"", [], "no text in stdin"),
        (b"one\n\nthree\n", [], "stdin:2: the text is empty"),
        (b"one\ntwo\xff\n", [], "stdin:2: byte 4 of the line is not UTF-8"),
        (b'{"t": "x"}\n{"t": \n', ["--field", "t"], "stdin:2: not JSON"),
        (b'{"t": "x"}\n[1]\n', ["--field", "t"], "stdin:2: expected a JSON object"),
        (b'{"text": "x"}\n', ["--field", "t"], "stdin:1: field 't' is no string; the fields there are: 'text'"),
        (b'{"t": "\\ud800"}\n', ["--field", "t"], "stdin:1: field 't' holds a lone surrogate"),
        (
            b'{"t": "x", "i": 1}\n{"t": "y", "i": 1}\n',
            ["--field", "t", "--id-field", "i"],
            "stdin:2: id '1' is that of",
        ),
        (b'{"t": "x", "i": 1.5}\n', ["--field", "t", "--id-field", "i"], "stdin:1: id field 'i'"),
        (b"x\n", ["--id-field", "i"], "--id-field needs --field"),
        (b"x\n", ["nowhere.txt"], "nowhere.txt cannot be read"),
        (b"x\n", ["-"], "stdin (-) can be read once only"),
    ],
)
def test_a_bad_input_is_named_with_its_line(
    vecbench: Command, tmp_path: Path, data: bytes, options: list[str], said: str
) -> None:
    done = vecbench("embed", "-", *options, "--out", "v.npy", stdin=data)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_nowhere_are_exit_1_with_every_place(vecbench: Command, tmp_path: Path) -> None:
    done = vecbench("embed", "-", "--out", "v.npy", stdin=b"x\n", VECBENCH_MODEL_DIR=str(tmp_path / "empty"))
    assert done.returncode == 1
    assert "VECBENCH_MODEL_DIR" in done.stderr
    assert "Traceback" not in done.stderr
