"""The command line: one module per verb. Heavy imports happen inside the verbs: `--help` answers at once."""
