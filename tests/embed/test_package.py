from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vecbench.embed
from vecbench.embed.bert import BertConfig, Output, build_graph
from vecbench.errors import MissingDependency

HEAVY = ["onnxruntime", "onnx", "tokenizers", "safetensors", "huggingface_hub", "httpx", "torch", "fastembed"]


def run(code: str, **environment: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ORT_") and k not in {"CI", "GITHUB_ACTIONS"}}
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**kept, **environment}
    ).stdout


def test_importing_loads_no_runtime() -> None:
    code = (
        "import sys, vecbench.embed\n"
        "from vecbench.embed import Embedder, EmbedderSpec, MINILM_SPEC, CachedEmbedder, OpenAIEmbedder, MiniLM\n"
        f"print(sorted(set({HEAVY}) & set(sys.modules)))"
    )
    assert run(code).strip() == "[]"


def test_public_names_are_there() -> None:
    for name in vecbench.embed.__all__:
        assert getattr(vecbench.embed, name).__module__.startswith("vecbench.embed.")
        assert name in dir(vecbench.embed)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        vecbench.embed.Nothing  # noqa: B018 - reading it is the test


def test_running_a_model_leaves_no_telemetry_behind(tmp_path: Path) -> None:
    code = (
        "import numpy as np\n"
        "from vecbench.embed.bert import BertConfig, Output, weight_shapes\n"
        "from vecbench.embed.session import BertSession\n"
        "config = BertConfig(layers=1, hidden=4, heads=1, intermediate=4, max_positions=4, vocab=4)\n"
        "output = Output('mean')\n"
        "weights = {n: np.ones(s, np.float32) for n, s in weight_shapes(config, output).items()}\n"
        "ids = np.ones((1, 2), np.int64)\n"
        "print(BertSession(config, output, weights).run(ids, ids).shape)\n"
    )
    assert run(code, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache")).strip() == "(1, 4)"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_missing_packages_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    config = BertConfig(layers=1, hidden=4, heads=1, intermediate=4, max_positions=4, vocab=4)
    for module in ("onnx", "sentence_transformers", "fastembed", "httpx"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match=r"pip install 'vecbench\[embed\]'"):
        build_graph(config, Output("mean"))
    with pytest.raises(MissingDependency, match=r"pip install 'vecbench\[sentence-transformers\]'"):
        vecbench.embed.SentenceTransformersEmbedder("any")
    with pytest.raises(MissingDependency, match=r"pip install 'vecbench\[fastembed\]'"):
        vecbench.embed.FastEmbedEmbedder()
    with pytest.raises(MissingDependency, match=r"pip install 'vecbench\[openai\]'"):
        vecbench.embed.OpenAIEmbedder("any", dim=3)
