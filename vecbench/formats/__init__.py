"""Readers of the files that data sets come in; what they cannot trust they refuse, naming file and row."""
