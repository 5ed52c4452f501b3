"""Benchmark of the cost of a personalized search and of other ways to personalize one, in turn on the same servers in one run."""
