"""The `vecbench` command: its verbs, and what becomes of an error."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import vecbench
from vecbench.cli import copy, datasets, embed, rag, run, services, split, stores, truth
from vecbench.cli.output import complain, say
from vecbench.errors import AdapterError, ConfigError, DatasetError, VecbenchError, redact

__all__ = ["app", "main"]

FAILED, USAGE, CRASHED, INTERRUPTED = 1, 2, 70, 130
_YOURS = (ConfigError, AdapterError, DatasetError)  # what another command line, or an installation, would mend
_UsageError: Any = typer.BadParameter.__mro__[1]  # Typer names it in no public module

_HELP = """Measure vector stores, and see what they can do.

\b
Start here (no server, no download):
  vecbench run --stores qdrant,faiss

\b
Look around:
  vecbench stores                  what is installed, and how to install the rest
  vecbench stores qdrant=http://localhost:6333
  vecbench datasets                what can be searched; `add` brings your own
  vecbench embed notes.txt --out notes.npy

\b
Move from one store to another:
  vecbench copy faiss qdrant --from-path kb --to-path kb2

\b
Answers from your own documents:
  vecbench rag add docs/
  vecbench rag ask "How long is the notice period?"

\b
Exit codes:
  0    everything worked
  1    something failed: a store, a connection, a model; the message says which
  2    the command line cannot be used: bad option, unknown store, missing package
  70   a defect in vecbench; VECBENCH_DEBUG=1 shows where
  130  interrupted by Ctrl-C; what was measured is kept
"""


class _Group(TyperGroup):
    """The verbs; an error of ours becomes one line on stderr and an exit code, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except VecbenchError as e:
            if _debug():
                raise
            complain(str(e))
            raise typer.Exit(USAGE if isinstance(e, _YOURS) else FAILED) from None
        except _UsageError as e:  # it may quote an argument, and an argument may be a URL with a password
            e.message = redact(e.message)
            raise


app = typer.Typer(
    name="vecbench",
    cls=_Group,
    help=_HELP,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help needs no import of Rich
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("run", short_help="Measure stores: recall, latency, build time, memory.")(run.run)
app.command("stores", short_help="List the stores, or ask whether one answers.")(stores.stores)
app.add_typer(services.services, name="services", short_help="Start real engines here, look at them, end them.")
app.add_typer(datasets.group, name="datasets", short_help="List the data sets, measure, add or check one.")
app.command("truth", short_help="Compute the exact neighbours of a data set.")(truth.truth)
app.command("copy", short_help="Copy a collection from one store to another, and verify it.")(copy.copy)
app.add_typer(rag.rag, name="rag", short_help="Answer questions from your own documents.")
app.command("split", short_help="Show where a file would be cut.")(split.split)
app.command("embed", short_help="Turn texts into vectors with the fixed model.")(embed.embed)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"vecbench {vecbench.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console command; leaves by SystemExit with one of the codes that `--help` lists."""
    warnings.showwarning = lambda message, *_where, **_more: complain(str(message), head="warning")
    try:
        app()
    except KeyboardInterrupt:  # outside any verb, while modules are imported, say
        complain("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `vecbench stores | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as e:
        if _debug():
            traceback.print_exc()
        else:
            complain(f"{type(e).__name__}: {e}")
            complain("this is a defect in vecbench; VECBENCH_DEBUG=1 shows where it happened", head="hint")
        sys.exit(CRASHED)


def _debug() -> bool:
    return os.environ.get("VECBENCH_DEBUG", "") not in {"", "0"}
