"""`python -m rewriter` is the command line."""

from rewriter.cli import main

main()
