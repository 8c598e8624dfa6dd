"""What a loaded store takes: memory of its processes, bytes on disk."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import psutil

from vecbench.capabilities import StoreInfo

__all__ = ["disk_bytes", "peak_bytes", "resident_bytes"]


def resident_bytes(info: StoreInfo) -> int | None:
    """Resident memory of the engine's processes, this one among them where the engine is embedded.

    None where no process of the engine is known here: the client's memory is not the engine's. Pages that several
    processes of an engine share (PostgreSQL's buffers) count once, where the system tells.
    """
    gc.collect()
    own = [os.getpid()] if info.deployment == "embedded" else []
    if not own and not info.pids:
        return None
    return sum(psutil.Process(pid).memory_info().rss for pid in own) + sum(map(_share, info.pids))


def _share(pid: int) -> int:
    try:
        process = psutil.Process(pid)
        # Linux only; "proportional set size": a shared page counts with 1/n in each of n processes.
        return int(getattr(process.memory_full_info(), "pss", 0) or process.memory_info().rss)
    except psutil.AccessDenied:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0  # a helper of the engine that has ended meanwhile


def peak_bytes() -> int | None:
    """The most memory that was ever resident in this process; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def disk_bytes(folder: Path) -> int:
    """Bytes allocated to the files below `folder`: a sparse file counts with what it holds, not with its length."""
    stats = [p.stat() for p in folder.rglob("*") if p.is_file()]
    return sum(s.st_blocks * 512 if hasattr(s, "st_blocks") else s.st_size for s in stats)
