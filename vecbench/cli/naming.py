"""From what was typed to what it names: stores, checked before anything runs."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from vecbench.cli.output import complain
from vecbench.errors import AdapterError, ConfigError, MissingDependency

if TYPE_CHECKING:
    from vecbench.registry import StoreRef
    from vecbench.store import VectorStore
    from vecbench.types import Metric

__all__ = [
    "ALL",
    "MetricNames",
    "checked_stores",
    "metrics",
    "missing_module",
    "numbers",
    "runnable_stores",
    "why_not_here",
]

MetricNames: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="[euclidean|cosine|dot]",
        help="May be given more than once.  [default: the data set's own, or euclidean and cosine]",
        show_default=False,
    ),
]
ALL = "all"  # in place of stores' names: every store whose engine can run here
_NO_STORES = {"memory", "null"}  # the oracle and the ruler's zero: not for choosing among


def missing_module(store: type[VectorStore]) -> str | None:
    """The first module that a store needs and that cannot be found; nothing is imported."""
    for module in store.modules:
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:  # the parent of a dotted name
            found = None
        if found is None:
            return module
    return None


def runnable_stores() -> tuple[list[StoreRef], dict[str, str]]:
    """Every store whose engine can run here without a URL, and why each of the others cannot."""
    from vecbench.registry import StoreRef, adapter_names

    can: list[StoreRef] = []
    cannot: dict[str, str] = {}
    for name in adapter_names():
        if name in _NO_STORES:
            continue
        reason = why_not_here(name)
        if reason is None:
            can.append(StoreRef(name))
        else:
            cannot[name] = reason
    return can, cannot


def why_not_here(name: str) -> str | None:
    """Why a store cannot be opened here by its name alone; None where it can."""
    from vecbench.registry import adapter
    from vecbench.services.manager import engine, engine_names, find

    try:
        store = adapter(name)
        if missing_module(store):
            return f"not installed: pip install 'vecbench[{store.extra}]'"
        if store.needs_account:
            return "it needs an account; where you have one, name it by itself"
        if name in engine_names() and find(name) is None:
            return engine(name).why_not()
    except AdapterError as e:
        return str(e)
    return None


def _split(item: str) -> list[str]:
    """Stores with commas between; a comma in a URL, in its password say, begins none unless a store's name follows."""
    from vecbench.registry import adapter_names

    out: list[str] = []
    for part in item.split(","):
        name = re.match(r"\s*([^:=\s]*)", part)
        inside = bool(out) and "=" in out[-1] and name is not None and name[1] not in {*adapter_names(), ALL}
        if inside:
            out[-1] += "," + part
        elif part.strip():
            out.append(part.strip())
    return out


def checked_stores(items: Iterable[str]) -> list[StoreRef]:
    """The stores in comma-separated `items`, in order; they exist, have the mode, and their clients are installed.

    `all` stands for every store whose engine can run here; those that cannot are named on stderr, with the reason.
    Raises `ConfigError`, `AdapterNotFound`, or `MissingDependency` with one line that installs all that is missing.
    """
    from vecbench.registry import StoreRef, adapter

    texts = [part for item in items for part in _split(item)]
    if ALL in texts:
        refs, cannot = runnable_stores()
        for name, reason in cannot.items():
            complain(f"{name}: {reason}", head="left out")
        given = [StoreRef.parse(text) for text in texts if text != ALL]
        refs = [*given, *(ref for ref in refs if ref.name not in {g.name for g in given})]
    else:
        refs = [StoreRef.parse(text) for text in texts]
    if not refs:
        raise ConfigError("no store is named; try --stores qdrant,faiss, or see `vecbench stores`")
    missing: list[tuple[str, str, str]] = []
    for position, ref in enumerate(refs):
        if ref in refs[:position]:
            raise ConfigError(f"store {ref.label!r} is named twice")
        store = adapter(ref.name)
        if ref.mode is not None and ref.mode not in store.modes:
            raise ConfigError(
                f"store {ref.name!r} has no mode {ref.mode!r}; it has: {', '.join(store.modes) or 'none'}"
            )
        if module := missing_module(store):
            missing.append((ref.name, module, store.extra or ref.name))
    if missing:
        name, module, _ = missing[0]
        raise MissingDependency(
            f"store {name!r}", module=module, extra=",".join(dict.fromkeys(extra for _, _, extra in missing))
        )
    return refs


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers of at least 1 from `16,32,64`, in that order; `ConfigError` names the option and the part."""
    found: list[int] = []
    for part in text.split(","):
        if not part.strip().isdecimal() or int(part) < 1:
            raise ConfigError(f"{option} {text!r}: expected whole numbers of at least 1 with commas, got {part!r}")
        found.append(int(part))
    if len(set(found)) != len(found):
        raise ConfigError(f"{option} {text!r}: a number occurs twice")
    return tuple(found)


def metrics(given: MetricNames, own: Metric | None = None) -> tuple[Metric, ...]:
    """The metrics of `--metric`; without it the data set's own, or Euclidean and cosine."""
    from vecbench.types import Metric

    if not given:
        return (Metric.EUCLIDEAN, Metric.COSINE) if own is None else (own,)
    try:
        return tuple(Metric(name) for name in given)
    except ValueError:
        unknown = next(name for name in given if name not in set(Metric))
        raise ConfigError(f"--metric {unknown!r} is not known; known: {', '.join(Metric)}") from None
