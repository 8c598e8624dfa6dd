"""The outsider's own tests are run by the outsider's interpreter, not by ours."""

collect_ignore = ["jsonstore_for_vecbench"]
