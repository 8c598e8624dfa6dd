"""The server as a process of its own: prints its address, and ends when its standard input does.

    python -m tests.pinecone_spec [--unchecked]

To be run in the root of the checkout, without PYTHONSAFEPATH.
"""

from __future__ import annotations

import sys

from tests.pinecone_spec.server import SpecServer

if __name__ == "__main__":
    with SpecServer(checked="--unchecked" not in sys.argv) as server:
        print(server.url, flush=True)
        sys.stdin.read()
