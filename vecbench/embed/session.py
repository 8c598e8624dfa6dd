"""A BERT encoder at work: published safetensors weights, checked, handed to onnxruntime with a graph of our own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vecbench.embed.bert import BertConfig, Output, build_graph, is_transposed, weight_shapes
from vecbench.errors import EmbedderError, MissingDependency

__all__ = ["BertSession", "read_weights"]

Weights = Mapping[str, npt.NDArray[np.float32]]


def read_weights(path: Path, config: BertConfig, output: Output) -> dict[str, npt.NDArray[np.float32]]:
    """The weights that config and output need from a safetensors file, by published name, float32, linear (out, in).

    The `bert.` prefix of checkpoints with a head and the old names gamma and beta are understood; what the graph does
    not need is not read. Raises EmbedderError for a missing weight, a wrong shape or dtype, or an unreadable file.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingDependency("Reading weights", module="safetensors", extra="embed") from error
    weights: dict[str, npt.NDArray[np.float32]] = {}
    shapes = weight_shapes(config, output)
    try:
        with safe_open(path, framework="numpy") as file:
            names = {_plain_name(name): name for name in file.keys()}  # noqa: SIM118 - not a mapping
            if missing := sorted(set(shapes) - set(names)):
                raise EmbedderError(
                    f"{path}: {len(missing)} weights that the encoder needs are missing, first {missing[0]!r}"
                )
            for name, shape in shapes.items():
                part = file.get_slice(names[name])
                if part.get_dtype() != "F32" or tuple(part.get_shape()) != shape:
                    raise EmbedderError(
                        f"{path}: weight {names[name]!r} is {part.get_dtype()} {tuple(part.get_shape())}; "
                        f"the encoder needs F32 {shape}"
                    )
                weights[name] = file.get_tensor(names[name])
    except (OSError, SafetensorError) as error:
        raise EmbedderError(f"{path}: not a readable safetensors file ({error})") from error
    return weights


def _plain_name(name: str) -> str:
    name = name.removeprefix("bert.")
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(f"LayerNorm{old}"):
            name = name.removesuffix(old) + new
    return name


class BertSession:
    """Runs one encoder on the CPU; safe to call from several threads at once.

    weights: by published name and in published shape, as `read_weights` gives them. threads: of one call, None for
    all CPUs that this process may use.
    """

    def __init__(self, config: BertConfig, output: Output, weights: Weights, *, threads: int | None = None) -> None:
        onnxruntime = _onnxruntime()
        if threads is not None and threads < 1:
            raise EmbedderError(f"threads is {threads}; it must be at least 1")
        self.config, self.output = config, output
        self.threads = threads or _usable_cpus()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3  # errors only
        values: dict[str, Any] = {}
        for name, shape in weight_shapes(config, output).items():
            array = weights.get(name)
            if array is None or array.shape != shape or array.dtype != np.float32:
                found = "missing" if array is None else f"{array.dtype} {array.shape}"
                raise EmbedderError(f"weight {name!r} is {found}; the encoder needs float32 {shape}")
            given = np.ascontiguousarray(array.T if is_transposed(name) else array)
            values[name] = onnxruntime.OrtValue.ortvalue_from_numpy(given)
        options.add_external_initializers(list(values), list(values.values()))
        self._values = values  # onnxruntime reads them for as long as the session lives
        self._session = onnxruntime.InferenceSession(
            build_graph(config, output), options, providers=["CPUExecutionProvider"]
        )

    def run(
        self,
        input_ids: npt.NDArray[np.int64],
        attention_mask: npt.NDArray[np.int64],
        token_type_ids: npt.NDArray[np.int64] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Vectors or logits, float32 (b, width), of token ids int64 (b, s); the mask is 1 for tokens, 0 for padding.

        token_type_ids: 0 for the first text of a pair, 1 for the second; given exactly when the output has segments.
        """
        if (token_type_ids is not None) != self.output.segments:
            raise EmbedderError(
                "token_type_ids are needed: this encoder scores pairs"
                if self.output.segments
                else "token_type_ids were given, but this encoder was built without segments"
            )
        feeds = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            feeds["token_type_ids"] = token_type_ids
        for name, array in feeds.items():
            if array.ndim != 2 or array.shape != input_ids.shape or array.dtype != np.int64:
                raise EmbedderError(f"{name} is {array.dtype} {array.shape}; it must be int64 (b, s), as input_ids is")
        if input_ids.shape[1] > self.config.max_positions:
            raise EmbedderError(
                f"input_ids has {input_ids.shape[1]} tokens in a row; the encoder takes {self.config.max_positions}"
            )
        if not len(input_ids):
            return np.empty((0, self.output.width(self.config)), np.float32)
        result: npt.NDArray[np.float32] = self._session.run(None, feeds)[0]
        return result


def _onnxruntime() -> Any:
    """The library, told before its import to send nothing home: later it would have written an id and reported it."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency("Running an encoder", module="onnxruntime", extra="embed") from error
    return onnxruntime


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
