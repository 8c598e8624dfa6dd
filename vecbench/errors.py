"""Every error that vecbench raises on purpose.

VecbenchError
├── ConfigError
├── AdapterError
│   ├── AdapterNotFound
│   └── MissingDependency           prints the install line
├── StoreError
│   ├── ConnectionFailed
│   ├── StoreTimeout
│   ├── StoreClosed
│   ├── CollectionNotFound
│   ├── CollectionExists
│   ├── CollectionMismatch
│   ├── CopyMismatch
│   ├── DimensionMismatch
│   ├── InvalidVector
│   ├── InvalidId
│   ├── InvalidMetadata
│   ├── EmbedderMismatch
│   ├── Unsupported
│   │   ├── UnsupportedFilter
│   │   ├── UnsupportedMetric
│   │   ├── UnsupportedIndex
│   │   └── UnsupportedOperation
│   ├── PartialWriteError           .accepted, .failed
│   └── StoreRejected               the engine said no; its own error is the __cause__
├── EmbedderError
│   └── WeightsNotFound
├── DatasetError
│   ├── ChecksumMismatch
│   └── GroundTruthMissing
├── BenchmarkError
│   ├── RunVoid
│   └── IncomparableResults
├── ClusterError                    a Ray cluster cannot be reached, or would give other results
│   └── ClusterLost                 a node was lost, and work with it
└── RagError
    ├── DocumentError               a document cannot be read, or two have one name
    └── ModelError                  a language model or reranker failed, timed out or answered nonsense

A message says what was wrong, where (row, field, store) and what to do. A vendor's exception never escapes a store:
it is the `__cause__` of ours, unless it repeats a secret. Secrets in URLs are masked by `redact` before they enter a
message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = [
    "AdapterError",
    "AdapterNotFound",
    "BenchmarkError",
    "ChecksumMismatch",
    "ClusterError",
    "ClusterLost",
    "CollectionExists",
    "CollectionMismatch",
    "CollectionNotFound",
    "ConfigError",
    "ConnectionFailed",
    "CopyMismatch",
    "DatasetError",
    "DimensionMismatch",
    "DocumentError",
    "EmbedderError",
    "EmbedderMismatch",
    "GroundTruthMissing",
    "IncomparableResults",
    "InvalidId",
    "InvalidMetadata",
    "InvalidVector",
    "MissingDependency",
    "ModelError",
    "PartialWriteError",
    "RagError",
    "RunVoid",
    "StoreClosed",
    "StoreError",
    "StoreRejected",
    "StoreTimeout",
    "Unsupported",
    "UnsupportedFilter",
    "UnsupportedIndex",
    "UnsupportedMetric",
    "UnsupportedOperation",
    "VecbenchError",
    "WeightsNotFound",
    "cause_of",
    "redact",
]


class VecbenchError(Exception):
    """Root of every error that vecbench raises on purpose."""


class ConfigError(VecbenchError):
    """An option, a plan or an environment variable is wrong."""


class AdapterError(VecbenchError):
    """An adapter could not be found or loaded."""


class AdapterNotFound(AdapterError):
    """No installed package registers a store under that name."""


class MissingDependency(AdapterError):
    """A package that the store or feature needs is not installed.

    `extra` is the vecbench extra that brings it, `module` the import name that failed.
    """

    def __init__(self, what: str, *, module: str, extra: str) -> None:
        self.what, self.module, self.extra = what, module, extra
        super().__init__(f"{what} needs the package that provides '{module}': pip install 'vecbench[{extra}]'")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_missing, (self.what, self.module, self.extra)


def _rebuild_missing(what: str, module: str, extra: str) -> MissingDependency:
    return MissingDependency(what, module=module, extra=extra)


class StoreError(VecbenchError):
    """A store refused or failed an operation."""


class ConnectionFailed(StoreError):
    """The engine cannot be reached, or something else answers there."""


class StoreTimeout(StoreError):
    """The engine did not answer, or did not become ready, before the deadline."""


class StoreClosed(StoreError):
    """The store was closed before this call."""


class CollectionNotFound(StoreError):
    """No collection of that name."""


class CollectionExists(StoreError):
    """A collection of that name exists and `exist_ok` was not given."""


class CollectionMismatch(StoreError):
    """The existing collection differs in dimension, metric or embedder from the one asked for."""


class CopyMismatch(StoreError):
    """A copy is not what its source is; the first record and field that differ are named. Nothing was deleted."""


class DimensionMismatch(StoreError):
    """A vector's length is not the collection's dimension."""


class InvalidVector(StoreError):
    """A vector holds NaN or infinity, or is zero under cosine; the row is named."""


class InvalidId(StoreError):
    """An id is not a string of 1 to 512 UTF-8 bytes, or occurs twice in one batch."""


class InvalidMetadata(StoreError):
    """A metadata key or value is outside the contract; row and field are named."""


class EmbedderMismatch(StoreError):
    """Vectors made by one embedder meet a collection made with another; both are named."""


class Unsupported(StoreError):
    """The store cannot do this; nothing was ignored or approximated in its place."""


class UnsupportedFilter(Unsupported):
    """The store cannot express this filter."""


class UnsupportedMetric(Unsupported):
    """The store has no such metric."""


class UnsupportedIndex(Unsupported):
    """The store has no such index, or an index parameter it cannot honour."""


class UnsupportedOperation(Unsupported):
    """The store has no such operation, or a search parameter it cannot honour."""


class PartialWriteError(StoreError):
    """Part of a batch was written. `accepted` ids are in the store; `failed` ids are not known to be."""

    def __init__(self, message: str, *, accepted: Sequence[str], failed: Sequence[str]) -> None:
        super().__init__(message)
        self.accepted = list(accepted)
        self.failed = list(failed)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_partial, (str(self), self.accepted, self.failed)


def _rebuild_partial(message: str, accepted: list[str], failed: list[str]) -> PartialWriteError:
    return PartialWriteError(message, accepted=accepted, failed=failed)


class StoreRejected(StoreError):
    """The engine refused an operation that vecbench thought valid; its own error is the `__cause__`."""


class EmbedderError(VecbenchError):
    """An embedder could not be loaded, or its vectors are not what its identity promises."""


class WeightsNotFound(EmbedderError):
    """The model's weights are nowhere that was looked; the message names every place."""


class DatasetError(VecbenchError):
    """A data set is unknown, malformed or incomplete."""


class ChecksumMismatch(DatasetError):
    """A file's hash is not the one that was promised."""


class GroundTruthMissing(DatasetError):
    """The exact neighbours asked for have not been computed."""


class BenchmarkError(VecbenchError):
    """A benchmark could not be run or read."""


class RunVoid(BenchmarkError):
    """The measurement cannot count: rows are missing, or a probe gave a wrong answer."""


class IncomparableResults(BenchmarkError):
    """Two results differ in something that forbids comparing them; the field is named."""


class ClusterError(VecbenchError):
    """A Ray cluster cannot be reached, fails a part of the work, or runs other software that could give other bits."""


class ClusterLost(ClusterError):
    """A node of the cluster was lost, and work with it that could not be done elsewhere."""


class RagError(VecbenchError):
    """Documents could not become answers."""


class DocumentError(RagError):
    """A document cannot be read, or two have one name; the source is named."""


class ModelError(RagError):
    """A language model or a reranker failed, did not answer in time, or answered nonsense."""


_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")  # to the last @: a password may hold one
_SECRET_PARAM = re.compile(r"(?i)((?:api[-_]?key|token|password|passwd|secret)[\"']?\s*[=:]\s*[\"']?)[^&\s\"',;)}\]]+")


def redact(text: str) -> str:
    """Mask what looks like a secret: user information in URLs, and key, token, password or secret parameters."""
    return _SECRET_PARAM.sub(r"\1***", _USERINFO.sub("***@", text))


def cause_of(error: BaseException, secrets: Iterable[str | None]) -> BaseException | None:
    """`error`, to raise another from; None where it, or what stands behind it, tells a secret.

    A traceback prints causes as they are, and a server may repeat in its answer what it was sent.
    """
    hidden, seen = [secret for secret in secrets if secret], list[BaseException]()
    behind: BaseException | None = error
    while behind is not None and not any(behind is one for one in seen):  # gRPC's can be their own causes
        if any(secret in text for text in (str(behind), repr(behind)) for secret in hidden):
            return None
        seen.append(behind)
        behind = behind.__cause__ or (None if behind.__suppress_context__ else behind.__context__)
    return error
