from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from typing import Any

import pytest

from vecbench.embed.spec import Embedder, EmbedderSpec
from vecbench.errors import EmbedderError

SPEC = EmbedderSpec(
    name="some-model",
    dim=8,
    revision="r1",
    weights_sha256="a" * 64,
    tokenizer_sha256="b" * 64,
    max_tokens=128,
    pooling="mean",
    normalised=True,
    lowercase=True,
    query_prefix="query: ",
    document_prefix="passage: ",
)


def test_fingerprint_is_the_hash_of_the_canonical_json() -> None:
    canonical = (
        '{"dim":8,"document_prefix":"passage: ","dtype":"float32","lowercase":true,"max_tokens":128,'
        '"name":"some-model","normalised":true,"pooling":"mean","query_prefix":"query: ","revision":"r1",'
        f'"tokenizer_sha256":"{"b" * 64}","weights_sha256":"{"a" * 64}"}}'
    )
    assert SPEC.fingerprint == hashlib.sha256(canonical.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x"},
        {"dim": 9},
        {"revision": "r2"},
        {"weights_sha256": "c" * 64},
        {"tokenizer_sha256": "c" * 64},
        {"max_tokens": None},
        {"pooling": "cls"},
        {"normalised": False},
        {"lowercase": None},
        {"query_prefix": ""},
        {"document_prefix": ""},
        {"dtype": "float16"},
    ],
)
def test_every_field_is_part_of_the_identity(change: dict[str, Any]) -> None:
    assert dataclasses.replace(SPEC, **change).fingerprint != SPEC.fingerprint


def test_survives_json_and_pickle() -> None:
    again = EmbedderSpec.from_dict(json.loads(json.dumps(SPEC.to_dict())))
    assert again == SPEC
    assert again.fingerprint == SPEC.fingerprint
    assert pickle.loads(pickle.dumps(SPEC)) == SPEC  # noqa: S301 - our own bytes


def test_describe_names_model_and_fingerprint() -> None:
    assert SPEC.describe() == f"some-model (8 dimensions, {SPEC.fingerprint})"
    assert "\n" not in EmbedderSpec.external("c" * 64, 3).describe()


def test_external_vectors_are_known_by_their_array() -> None:
    spec = EmbedderSpec.external("c" * 64, 3)
    assert spec.name == f"external:{'c' * 64}"
    assert spec.is_external
    assert not SPEC.is_external
    assert spec.fingerprint != EmbedderSpec.external("d" * 64, 3).fingerprint
    with pytest.raises(EmbedderError, match="not a sha256"):
        EmbedderSpec.external("abc", 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name is empty"),
        ({"dim": 0}, "dim is 0"),
        ({"dim": True}, "dim is True"),
        ({"dim": "8"}, "dim is '8'; it must be int"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": 1.5}, "int or None"),
        ({"pooling": "median"}, "pooling is 'median'"),
        ({"weights_sha256": "A" * 64}, "weights_sha256"),
        ({"normalised": 1}, "normalised is 1"),
    ],
)
def test_wrong_fields_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EmbedderError, match=message):
        dataclasses.replace(SPEC, **change)


def test_from_dict_names_what_is_unknown_or_missing() -> None:
    with pytest.raises(EmbedderError, match=r"unknown fields \['flavour'\]"):
        EmbedderSpec.from_dict({**SPEC.to_dict(), "flavour": "sweet"})
    with pytest.raises(EmbedderError, match=r"\['dim'\] are missing"):
        EmbedderSpec.from_dict({"name": "x"})


def test_protocol_is_checkable() -> None:
    assert not isinstance(SPEC, Embedder)
