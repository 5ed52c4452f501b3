"""A simulated season: people of Complete Journey search, click and buy, and `rewriter report` says what it made of it."""
