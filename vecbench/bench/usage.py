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

    None where no process of the engine is known here: the client's memory is not the engine's.
    """
    gc.collect()
    pids = (*([os.getpid()] if info.deployment == "embedded" else []), *info.pids)
    return sum(psutil.Process(pid).memory_info().rss for pid in pids) if pids else None


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
