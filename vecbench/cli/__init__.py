"""The command line: one module per verb. What is heavy is imported inside the verbs, so that `--help` answers at once."""
