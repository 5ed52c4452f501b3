"""The demonstration behind `rewriter demo`, and its engines."""
