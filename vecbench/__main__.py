"""`python -m vecbench` is the `vecbench` command."""

from vecbench.cli.main import main

if __name__ == "__main__":
    main()
