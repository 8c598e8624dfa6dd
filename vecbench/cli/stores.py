"""`vecbench stores`: what is installed, what it can do, whether it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecbench.cli.naming import missing_module, why_not_here
from vecbench.cli.output import complain, console, print_json, say, table
from vecbench.errors import AdapterError, VecbenchError, redact

if TYPE_CHECKING:
    from vecbench.capabilities import Capabilities
    from vecbench.registry import StoreRef
    from vecbench.store import VectorStore

__all__ = ["stores"]


def stores(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STORE]...",
            help="Stores to open: name, name:mode or name=url. Without any, all known stores are listed.",
            show_default=False,
        ),
    ] = None,
    probe: Annotated[bool, typer.Option("--probe", help="Open every embedded store to learn its version.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the stores and what they can do, or ask some whether they answer.

    \b
    Examples:
      vecbench stores
      vecbench stores --probe
      vecbench stores qdrant=http://localhost:6333
    Ready: yes, its name alone opens it; client, it needs a URL or an account; no, it is not installed.
    The list imports no store's client. Exit code 1: a store that was named did not answer.
    """
    if names:
        _answering(names, as_json=as_json)
    else:
        _known(probe=probe, as_json=as_json)


def _answering(names: Sequence[str], *, as_json: bool) -> None:
    from vecbench.registry import StoreRef, adapter

    refs = [StoreRef.parse(name) for name in names]
    for ref in refs:
        adapter(ref.name)  # a name that is wrong is said before any store is opened
    answers = [_open(ref) for ref in refs]
    if as_json:
        print_json(answers)
    else:
        for answer in answers:
            if "error" in answer:
                complain(f"{answer['store']}: {answer['error']}")
            else:
                say("\n".join(_answer_lines(answer)))
    if any("error" in answer for answer in answers):
        raise typer.Exit(1)


def _open(ref: StoreRef) -> dict[str, Any]:
    from dataclasses import asdict

    try:
        with ref.connect() as store:
            info = asdict(store.info)
            # A target may be the URL that was given, with what is secret in it.
            info["target"] = redact(info["target"])
            return {"store": ref.label, "info": info, "capabilities": _capabilities(store.capabilities)}
    except VecbenchError as e:
        return {"store": ref.label, "error": redact(str(e))}


def _answer_lines(answer: Mapping[str, Any]) -> list[str]:
    info, can = answer["info"], answer["capabilities"]
    lines = [
        f"{answer['store']}: answers",
        f"  called      {info['label']} ({info['deployment']})",
        f"  engine      {info['engine']} {info['engine_version']}",
        f"  client      {info['client']} {info['client_version']}",
    ]
    if info["target"]:
        lines.append(f"  target      {info['target']}")
    if not info["benchmarkable"]:
        lines.append(f"  benchmark   refused: {info['why_not']}")
    lines.append(f"  metrics     {', '.join(can['metrics'])}")
    lines.append(f"  indexes     {', '.join(can['indexes'])}")
    lines.append(f"  filters     {', '.join(can['filters']) or 'none'}")
    lines.append(f"  exact       {'yes' if can['exact_search'] else 'no'}")
    return lines


def _known(*, probe: bool, as_json: bool) -> None:
    from vecbench.registry import adapter_names

    found = [_describe(name, probe=probe) for name in adapter_names()]
    if as_json:
        print_json(found)
        return
    wide = console()
    wide.print(
        table(
            "",
            ["store", "ready", "engine" if probe else "client", "modes", "metrics", "indexes", "filters", "exact"],
            [_row(store, probe=probe) for store in found],
            right=["filters"],
        )
    )
    for store in found:
        if "error" in store:
            complain(f"{store['name']}: {store['error']}")
        elif not store["installed"]:
            say(f"{store['name']} is not installed: {store['install']}")
        elif store["why_not_here"]:
            say(f"{store['name']}: only the client is here; {store['why_not_here']}")


def _row(store: Mapping[str, Any], *, probe: bool) -> list[str]:
    if "installed" not in store:
        return [store["name"], "broken", *[""] * 6]
    can, info = store["capabilities"], store.get("info")
    if probe:
        version = f"{info['label']} {info['engine_version']}" if info else "–"
    else:
        version = store["client_version"] or "–"
    ready = "no" if not store["installed"] else "client" if store["why_not_here"] else "yes"
    start = [store["name"], ready, version, "\n".join(store["modes"]) or "–"]
    if can is None:
        return [*start, "by mode:", "--probe", "–", "–"]
    return [
        *start,
        "\n".join(can["metrics"]),
        "\n".join(can["indexes"]),
        str(len(can["filters"])),
        "yes" if can["exact_search"] else "no",
    ]


def _describe(name: str, *, probe: bool) -> dict[str, Any]:
    from vecbench.registry import StoreRef, adapter

    try:
        store = adapter(name)
    except AdapterError as e:
        return {"name": name, "error": str(e)}
    module = missing_module(store)
    made: dict[str, Any] = {
        "name": name,
        "installed": module is None,
        "why_not_here": why_not_here(name),
        "client_version": _client_versions(store),
        "modes": list(store.modes),
        # A store whose abilities depend on how it is deployed declares them when it is opened.
        "capabilities": _capabilities(store.capabilities) if store.capabilities.metrics else None,
        "install": f"pip install 'vecbench[{store.extra}]'" if store.extra else "",
    }
    if probe and module is None:
        answer = _open(StoreRef(name))
        made |= {key: answer[key] for key in ("info", "capabilities", "error") if key in answer}
    return made


def _client_versions(store: type[VectorStore]) -> str:
    """Versions of the distributions that carry the store's modules; the modules are not imported."""
    from importlib.metadata import packages_distributions, version

    if not store.modules:
        return ""
    carriers = packages_distributions()
    names = {name for module in store.modules for name in carriers.get(module.split(".")[0], [])}
    return ", ".join(f"{name} {version(name)}" for name in sorted(names))


def _capabilities(can: Capabilities) -> dict[str, Any]:
    return {
        "metrics": sorted(can.metrics),
        "indexes": sorted(can.indexes),
        "filters": sorted(can.filters),
        "ef_search": can.ef_search,
        "nprobe": can.nprobe,
        "exact_search": can.exact_search,
        "persistent": can.persistent,
        "concurrent_writers": can.concurrent_writers,
        "max_k": can.max_k,
        "max_dim": can.max_dim,
    }
