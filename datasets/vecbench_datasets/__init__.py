"""The data sets that come with vecbench: small frozen vectors, and generators; entry points name each one."""
