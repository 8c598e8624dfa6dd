"""The harness: a plan becomes cases, cases become a report that keeps every raw number."""
