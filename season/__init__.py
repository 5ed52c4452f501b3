"""A simulated season: people of Complete Journey search, click and buy, and `rewriter report` reads their records."""
