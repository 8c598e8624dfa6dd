"""`vecbench services`: start real engines on this machine, look at them, and end them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecbench.cli.output import complain, console, megabytes, print_json, say, table
from vecbench.errors import AdapterNotFound, ConfigError, VecbenchError

if TYPE_CHECKING:
    from vecbench.services.manager import Running

__all__ = ["services"]

services = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""Start real engines on this machine, look at them, and end them.

\b
Examples:
  vecbench services up weaviate elasticsearch
  vecbench run --stores weaviate,elasticsearch
  vecbench services down --all
An engine runs as a plain process where its program is installed, by docker compose elsewhere. It listens on the
loopback address only, with a password of its own where it has passwords; the other commands find it by its name.
""",
)
_Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Engines; see `vecbench services status`.")]


@services.command("up", short_help="Start engines and wait until they serve.")
def up(
    names: _Names,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="Keep the data here, in a folder per engine.  [default: deleted by down]"
        ),
    ] = None,
    docker: Annotated[
        bool, typer.Option("--docker", help="Use docker compose even where a process could run.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="For each engine.", show_default=False)
    ] = None,
) -> None:
    """Start engines, one after the other, and return when each serves. One that is up already stays as it is.

    \b
    Example:
      vecbench services up weaviate elasticsearch
    Exit code 1: an engine could not be started; the others were.
    """
    failed = False
    for name in dict.fromkeys(names):
        _known(name)
    if data is not None and docker:
        raise ConfigError("--data is for processes; a container keeps its data in a volume of docker")
    for name in dict.fromkeys(names):
        try:
            service = _start(name, data, docker=docker, timeout=timeout)
        except VecbenchError as e:
            complain(f"{name}: {e}")
            failed = True
        else:
            say(f"{name}: {service.version} at {service.url} ({service.how})")
    if failed:
        raise typer.Exit(1)


def _known(name: str) -> None:
    from vecbench.services.compose import SERVERS
    from vecbench.services.manager import engine_names

    known = sorted({*SERVERS, *engine_names()})
    if name not in known:
        raise AdapterNotFound(f"no engine is called {name!r}; known: {', '.join(known)}")


def _start(name: str, data: Path | None, *, docker: bool, timeout: float | None) -> Running:
    from vecbench.errors import ConnectionFailed
    from vecbench.services.compose import SERVERS, compose_up, why_no_docker
    from vecbench.services.manager import engine, engine_names, find, up

    already = find(name)
    if already is not None:
        return already
    reason = "it was not asked for" if docker else "no package brings it"
    if not docker and name in engine_names():
        why = engine(name).why_not()
        if why is None:
            return up(name, data=None if data is None else data / name, timeout=timeout)
        reason = why
    no_docker = why_no_docker() if name in SERVERS else "vecbench has no container for it"
    if no_docker is not None:
        raise ConnectionFailed(f"it cannot run as a process ({reason}), nor by docker ({no_docker})")
    return compose_up(name) if timeout is None else compose_up(name, timeout=timeout)


@services.command("down", short_help="End engines.")
def down(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", show_default=False)] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that are up.")] = False,
) -> None:
    """End engines that `up` started; data without a folder of its own goes too. One that is not up is fine."""
    from vecbench.services.compose import compose_down
    from vecbench.services.manager import down as end
    from vecbench.services.manager import running

    if bool(names) == all_:
        raise ConfigError("name the engines to end, or give --all")
    for name in names or []:
        _known(name)
    for service in running():
        if all_ or service.name in (names or []):
            compose_down(service) if service.how == "docker" else end(service)
            say(f"{service.name}: ended")


@services.command("status", short_help="What is up, and what could be.")
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show each engine: up or not, version, address, processes, memory; and why one cannot run here."""
    from vecbench.services.compose import SERVERS
    from vecbench.services.manager import engine, engine_names, running

    up_now = {service.name: service for service in running()}
    rows: list[dict[str, Any]] = []
    for name in sorted({*engine_names(), *SERVERS, *up_now}):
        service = up_now.get(name)
        if service is not None:
            shown = dataclasses.asdict(service)
            del shown["secrets"], shown["guard"], shown["created"]
            rows.append({**shown, "state": "up", "pids": service.pids, "memory_bytes": service.memory_bytes})
        else:
            why = _why_not(engine, name) if name in engine_names() else "only docker has it"
            rows.append({"name": name, "state": "can be started" if why is None else "cannot run", "why": why})
    if as_json:
        print_json(rows)
        return
    lines = [
        [
            row["name"],
            row["state"],
            row.get("version", "–"),
            row.get("url", "–"),
            str(next(iter(row.get("pids", ())), "–")),
            megabytes(row.get("memory_bytes")),
        ]
        for row in rows
    ]
    console().print(
        table("", ["engine", "state", "version", "url", "pid", "memory MB"], lines, right=["url", "pid", "memory MB"])
    )
    for row in rows:
        if row.get("why"):
            say(f"{row['name']} cannot run as a process here: {row['why']}")
        elif row["state"] == "up" and row["folder"]:
            say(f"{row['name']} keeps its data and its log in {row['folder']}")


def _why_not(engine: Any, name: str) -> str | None:
    try:
        reason: str | None = engine(name).why_not()
    except VecbenchError as e:
        return str(e)
    return reason


@services.command("logs", short_help="The end of what an engine printed.")
def logs(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines.")] = 50,
) -> None:
    """Print the end of an engine's log, with what looks like a secret masked."""
    from vecbench.services.compose import compose_logs
    from vecbench.services.manager import find

    _known(name)
    service = find(name)
    if service is None:
        raise ConfigError(f"{name} is not up; start it with: vecbench services up {name}")
    text = compose_logs(service, lines) if service.how == "docker" else service.log
    say("\n".join(text.splitlines()[-lines:]))
