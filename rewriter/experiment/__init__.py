"""The analysis of the experiment: estimates, intervals that hold at every look, and a conclusion in plain sentences.

Needs the extra `report` (numpy, scipy, DuckDB). `window_records` reads files; the other modules compute numbers from its tables.
"""
