"""The analysis of the experiment: estimates, intervals that hold at every look, and a conclusion in plain sentences.

Needs the extra `report` (numpy, scipy, DuckDB). All modules but `records` are pure: they compute numbers from people's sums.
"""
