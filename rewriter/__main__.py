"""Entry point of `python -m rewriter`: the command line."""

from rewriter.cli import main

main()
