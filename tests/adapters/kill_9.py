"""A program that writes until it is killed without warning."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time


def last_number(code: str, *arguments: object, seconds: float) -> int:
    """Run a program that prints ever higher numbers, a line each; kill it then, but not before the first; the last one.

    A line that it had begun does not count.
    """
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    pipe, heard, deadline = process.stdout.fileno(), b"", time.monotonic() + seconds
    try:
        while b"\n" not in heard or time.monotonic() < deadline:
            if select.select([pipe], [], [], max(0.001, deadline - time.monotonic()))[0]:
                more = os.read(pipe, 65536)
                assert more, f"the writer died by itself: {process.wait()}"
                heard += more
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    heard += process.stdout.read()
    process.stdout.close()
    return int(heard[: heard.rindex(b"\n")].rsplit(b"\n", 1)[-1])
