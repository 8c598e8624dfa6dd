"""What the numbers were measured on; nothing that names a person or a host."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import numpy as np
import psutil
from pydantic import BaseModel

__all__ = ["Machine", "describe_machine", "sgemm_gflops"]


class Machine(BaseModel):
    """A machine and its state when the run began."""

    processor: str
    cores_logical: int
    cores_usable: int
    memory_bytes: int
    system: str
    kernel: str
    python: str
    numpy: str
    load_average_1min: float
    sgemm_gflops_before: float
    sgemm_gflops_after: float | None = None


def describe_machine() -> Machine:
    """This machine, now; takes about 0.1 s for the compute kernel."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        processor=_processor(),
        cores_logical=os.cpu_count() or 1,
        cores_usable=usable,
        memory_bytes=psutil.virtual_memory().total,
        system=_system(),
        kernel=platform.release(),
        python=platform.python_version(),
        numpy=np.__version__,
        load_average_1min=psutil.getloadavg()[0],
        sgemm_gflops_before=sgemm_gflops(),
    )


def sgemm_gflops() -> float:
    """The rate of a fixed float32 matrix product, the best of three: shows when the machine itself moved."""
    a = np.ones((1024, 1024), np.float32)
    best = min(_timed(a) for _ in range(3))
    return round(2 * 1024**3 / best, 1)


def _timed(a: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> int:
    start = time.perf_counter_ns()
    np.matmul(a, a)
    return time.perf_counter_ns() - start


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return f"{platform.system()} {platform.release()}"
