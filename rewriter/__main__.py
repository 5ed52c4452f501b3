"""Entry point of `python -m rewriter`: the command line."""

from rewriter_command import main

main()
