"""Backfill: builds profiles, population and segments from history files. `history` computes the sums, `swap` writes them."""
