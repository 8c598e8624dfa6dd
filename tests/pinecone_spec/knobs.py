"""What a test can make the server do: be late, be busy, fail, accept half."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Fault", "Knobs", "Lag"]


@dataclass
class Lag:
    """When a write becomes visible: after this time, and after this many reads that did not see it yet."""

    seconds: float = 0.0
    reads: int = 0


@dataclass
class Fault:
    """Answer `times` requests whose path ends with `path` with an error, after letting `after` of them through."""

    status: int
    path: str = ""
    after: int = 0
    times: int = 1
    retry_after: float | None = None
    message: str = "injected"

    def strikes(self, path: str) -> bool:
        """Whether this request fails; counts it."""
        if not path.endswith(self.path) or self.times <= 0:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return True


@dataclass
class Knobs:
    """Of one project.

    search, stats: how late searches and reads by metadata are, and counts; reading by id is never late, see the
    adapter's README. accept: upserts take so many vectors each, and say so.
    until_ready, until_gone: how many looks it takes an index to be made, and to be gone. log_numbers: answers carry log
    sequence numbers. stuck: pages name the same next page for ever.
    """

    search: Lag = field(default_factory=Lag)
    stats: Lag = field(default_factory=Lag)
    faults: list[Fault] = field(default_factory=list)
    latency: float = 0.0
    accept: int | None = None
    until_ready: int = 0
    until_gone: int = 0
    log_numbers: bool = True
    stuck: bool = False
