"""The experiment: did personalization help? Estimates, intervals that hold however often one looks, and a conclusion in words.

Needs the extra `report` (numpy, scipy, DuckDB). Everything but `records` is pure: people's sums in, numbers out.
"""
