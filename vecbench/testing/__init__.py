"""The conformance suite: what a store must do to be one of vecbench's. For adapters of ours and of others.

    class TestMyStore(ConformanceSuite):
        def open_store(self, path):
            return MyStore.open(path=path)

Needs pytest and hypothesis. The suite is driven by the store's `capabilities`: what is claimed must pass, what is not
claimed must raise `Unsupported…`. A known gap is a `Limit` with a reason; it becomes a strict xfail, which fails the
build when the gap closes.
"""

import pytest

# Before they are imported: a failing assert then shows its values, which pytest does by itself only in test files.
pytest.register_assert_rewrite(
    *(
        f"vecbench.testing.{part}"
        for part in ("data", "filtering", "hostile", "input", "lifecycle", "records", "searching")
    )
)

from vecbench.testing.limits import Limit  # noqa: E402  see above
from vecbench.testing.suite import ConformanceSuite  # noqa: E402  see above

__all__ = ["ConformanceSuite", "Limit"]
