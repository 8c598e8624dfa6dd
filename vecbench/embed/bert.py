"""BERT encoders as ONNX graphs without weights: layers, heads, pooling or head are parameters.

The graph names each weight as the published checkpoint does (`encoder.layer.0.attention.self.query.weight`) and holds
none: the values are handed over when the session starts (`vecbench.embed.session`). Needs the `onnx` package.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from vecbench.errors import EmbedderError, MissingDependency

__all__ = ["BertConfig", "Output", "build_graph", "is_transposed", "weight_shapes"]

OPSET = 20
IR_VERSION = 9  # the one that came with opset 20: read by every onnxruntime that knows the opset
_MASKED = -1e9  # added to the scores of padding before the softmax, whose float32 result is then exactly 0

Kind: TypeAlias = Literal["mean", "cls", "next_sentence", "classifier"]
_ACTIVATIONS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


@dataclass(frozen=True)
class BertConfig:
    """The sizes of an encoder; `hidden` is divided evenly among `heads`. Positions are learned and absolute."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    max_positions: int
    vocab: int
    type_vocab: int = 2
    layer_norm_eps: float = 1e-12
    activation: str = "gelu"

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "heads", "intermediate", "max_positions", "vocab", "type_vocab"):
            if getattr(self, name) < 1:
                raise EmbedderError(f"BERT config: {name} is {getattr(self, name)}; it must be at least 1")
        if self.hidden % self.heads:
            raise EmbedderError(f"BERT config: hidden {self.hidden} is not a multiple of heads {self.heads}")
        if self.activation not in _ACTIVATIONS:
            raise EmbedderError(
                f"BERT config: activation {self.activation!r} is not one of {', '.join(sorted(_ACTIVATIONS))}"
            )

    @classmethod
    def from_published(cls, config: Mapping[str, Any]) -> BertConfig:
        """The sizes from a published config.json; raises EmbedderError where it is no BERT or lacks a field."""
        kind, positions = config.get("model_type"), config.get("position_embedding_type", "absolute")
        if kind != "bert" or positions != "absolute":
            raise EmbedderError(
                f"config.json: model_type {kind!r} with {positions!r} positions; only 'bert' with 'absolute' is built"
            )
        try:
            return cls(
                layers=config["num_hidden_layers"],
                hidden=config["hidden_size"],
                heads=config["num_attention_heads"],
                intermediate=config["intermediate_size"],
                max_positions=config["max_position_embeddings"],
                vocab=config["vocab_size"],
                type_vocab=config["type_vocab_size"],
                layer_norm_eps=config["layer_norm_eps"],
                activation=config["hidden_act"],
            )
        except KeyError as error:
            raise EmbedderError(f"config.json: the field {error} is missing") from error
        except TypeError as error:  # a size that is no number
            raise EmbedderError(f"config.json: a size is no number ({error})") from error


@dataclass(frozen=True)
class Output:
    """What the graph gives for each row of the batch, float32.

    mean: the mean of the hidden states over tokens that are not padding, (b, hidden). cls: the hidden state of the
    first token, (b, hidden). Both with `normalise` at length 1. next_sentence: two logits, (b, 2), of which the first
    says "is the next sentence". classifier: `labels` logits, (b, labels): cross-encoders have one label.
    `segments` adds the input `token_type_ids`, which tells the two texts of a pair apart; without it all is segment 0.
    """

    kind: Kind
    normalise: bool = False
    segments: bool = False
    labels: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise EmbedderError(f"BERT output: kind {self.kind!r} is not one of {get_args(Kind)}")
        if self.normalise and self.head:
            raise EmbedderError(f"BERT output: logits of {self.kind!r} cannot be normalised; only mean and cls can")
        if self.labels < 1:
            raise EmbedderError(f"BERT output: labels is {self.labels}; it must be at least 1")

    @property
    def head(self) -> str | None:
        """The name under which a checkpoint keeps the head's weights; None for mean and cls."""
        return {"next_sentence": "cls.seq_relationship", "classifier": "classifier"}.get(self.kind)

    def width(self, config: BertConfig) -> int:
        """Columns of the result."""
        return {"next_sentence": 2, "classifier": self.labels}.get(self.kind, config.hidden)


def weight_shapes(config: BertConfig, output: Output) -> dict[str, tuple[int, ...]]:
    """Name and published shape of every weight that the graph needs; linear weights are (out, in) as published."""
    h, wide = config.hidden, config.intermediate
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocab, h),
        "embeddings.position_embeddings.weight": (config.max_positions, h),
        "embeddings.token_type_embeddings.weight": (config.type_vocab, h),
    }

    def linear(name: str, wide_out: int, wide_in: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (wide_out, wide_in), (wide_out,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (h,), (h,)

    norm("embeddings.LayerNorm")
    for layer in range(config.layers):
        prefix = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            linear(f"{prefix}.attention.self.{part}", h, h)
        linear(f"{prefix}.attention.output.dense", h, h)
        norm(f"{prefix}.attention.output.LayerNorm")
        linear(f"{prefix}.intermediate.dense", wide, h)
        linear(f"{prefix}.output.dense", h, wide)
        norm(f"{prefix}.output.LayerNorm")
    if output.head:
        linear("pooler.dense", h, h)
        linear(output.head, output.width(config), h)
    return shapes


def is_transposed(name: str) -> bool:
    """True for the weights that the graph takes as (in, out): those of linear layers."""
    return name.endswith(".weight") and not name.startswith("embeddings.") and ".LayerNorm." not in name


class _Graph:
    """Collects nodes and initializers; each method returns the name of the value that it makes."""

    def __init__(self, onnx: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.onnx, self.shapes = onnx, shapes
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}

    def node(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        result = name or f"{op}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [result], **attributes))
        return result

    def constant(self, value: npt.ArrayLike, dtype: type[np.generic]) -> str:
        array = np.asarray(value, dtype=dtype)
        name = f"constant_{array.dtype}_{'_'.join(map(str, array.ravel().tolist()))}_{array.ndim}"
        if name not in self.initializers:
            self.initializers[name] = self.onnx.numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str) -> str:
        """An initializer that says "elsewhere"; the session supplies its values."""
        if name not in self.initializers:
            tensor = self.onnx.TensorProto(name=name, data_type=self.onnx.TensorProto.FLOAT)
            shape = self.shapes[name]
            tensor.dims.extend(shape[::-1] if is_transposed(name) else shape)
            tensor.data_location = self.onnx.TensorProto.EXTERNAL
            for key, value in (("location", "given-at-start"), ("offset", "0"), ("length", str(4 * math.prod(shape)))):
                tensor.external_data.add(key=key, value=value)
            self.initializers[name] = tensor
        return name

    def linear(self, x: str, name: str) -> str:
        return self.node("Add", self.node("MatMul", x, self.weight(f"{name}.weight")), self.weight(f"{name}.bias"))

    def norm(self, x: str, name: str, epsilon: float) -> str:
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)


def build_graph(config: BertConfig, output: Output) -> bytes:
    """The encoder as a serialized ONNX model without weights, some 50 kB.

    Inputs, int64 (b, s): `input_ids`, `attention_mask` (1 for a token, 0 for padding) and, with `output.segments`,
    `token_type_ids`. Output: `output`, float32 (b, output.width(config)). Raises MissingDependency without `onnx`.
    """
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise MissingDependency("Building an encoder", module="onnx", extra="embed") from error

    g = _Graph(onnx, weight_shapes(config, output))
    x = _embeddings(g, config, output)
    mask = g.node("Cast", "attention_mask", to=onnx.TensorProto.FLOAT)  # (b, s)
    rows = g.node("Unsqueeze", mask, g.constant([1, 2], np.int64))  # (b, 1, 1, s)
    bias = g.node("Mul", g.node("Sub", g.constant(1, np.float32), rows), g.constant(_MASKED, np.float32))
    for layer in range(config.layers):
        x = _layer(g, config, f"encoder.layer.{layer}", x, bias)
    _output(g, output, x, mask)

    def value(name: str, kind: int, shape: list[str | int]) -> Any:
        return onnx.helper.make_tensor_value_info(name, kind, shape)

    names = ["input_ids", "attention_mask", *(["token_type_ids"] if output.segments else [])]
    graph = onnx.helper.make_graph(
        g.nodes,
        "bert",
        [value(name, onnx.TensorProto.INT64, ["b", "s"]) for name in names],
        [value("output", onnx.TensorProto.FLOAT, ["b", output.width(config)])],
        list(g.initializers.values()),
    )
    opset = onnx.helper.make_opsetid("", OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    serialized: bytes = model.SerializeToString()
    return serialized


def _embeddings(g: _Graph, config: BertConfig, output: Output) -> str:
    """Word + position + segment, normalised: (b, s, hidden)."""
    words = g.node("Gather", g.weight("embeddings.word_embeddings.weight"), "input_ids", axis=0)
    zero = g.constant([0], np.int64)
    # The length as a slice of the shape: a Range over it makes onnxruntime's optimizer emit a wrong Slice.
    length = g.node("Shape", "input_ids", start=1, end=2)
    positions = g.node("Slice", g.weight("embeddings.position_embeddings.weight"), zero, length, zero)
    table = g.weight("embeddings.token_type_embeddings.weight")
    if output.segments:
        kinds = g.node("Gather", table, "token_type_ids", axis=0)
    else:
        kinds = g.node("Slice", table, zero, g.constant([1], np.int64), zero)  # segment 0 for every token
    total = g.node("Add", g.node("Add", words, positions), kinds)
    return g.norm(total, "embeddings.LayerNorm", config.layer_norm_eps)


def _layer(g: _Graph, config: BertConfig, prefix: str, x: str, bias: str) -> str:
    """One transformer layer, normalised after each half: (b, s, hidden) to the same."""
    size = config.hidden // config.heads
    split, joined = g.constant([0, 0, config.heads, size], np.int64), g.constant([0, 0, config.hidden], np.int64)

    def heads(part: str, order: list[int]) -> str:
        projected = g.node("Reshape", g.linear(x, f"{prefix}.attention.self.{part}"), split)
        return g.node("Transpose", projected, perm=order)

    query, key, value = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]), heads("value", [0, 2, 1, 3])
    scores = g.node("Mul", g.node("MatMul", query, key), g.constant(1 / math.sqrt(size), np.float32))
    shares = g.node("Softmax", g.node("Add", scores, bias), axis=-1)
    mixed = g.node("Transpose", g.node("MatMul", shares, value), perm=[0, 2, 1, 3])
    attended = g.linear(g.node("Reshape", mixed, joined), f"{prefix}.attention.output.dense")
    x = g.norm(g.node("Add", attended, x), f"{prefix}.attention.output.LayerNorm", config.layer_norm_eps)
    wide = g.node("Gelu", g.linear(x, f"{prefix}.intermediate.dense"), approximate=_ACTIVATIONS[config.activation])
    narrow = g.linear(wide, f"{prefix}.output.dense")
    return g.norm(g.node("Add", narrow, x), f"{prefix}.output.LayerNorm", config.layer_norm_eps)


def _output(g: _Graph, output: Output, x: str, mask: str) -> None:
    """The value named `output` from the hidden states `x` (b, s, hidden) and the float mask (b, s)."""
    last, one = g.constant([-1], np.int64), g.constant([1], np.int64)
    if output.kind == "mean":
        total = g.node("ReduceSum", g.node("Mul", x, g.node("Unsqueeze", mask, last)), one, keepdims=0)
        pooled = g.node("Div", total, g.node("ReduceSum", mask, one, keepdims=1))
    else:
        pooled = g.node("Gather", x, g.constant(0, np.int64), axis=1)
    if output.head:
        g.node("Identity", g.linear(g.node("Tanh", g.linear(pooled, "pooler.dense")), output.head), name="output")
    elif output.normalise:
        g.node("Div", pooled, g.node("ReduceL2", pooled, last, keepdims=1), name="output")
    else:
        g.node("Identity", pooled, name="output")
