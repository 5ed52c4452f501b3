"""Months of history become profiles, population and segments: `history` adds up, `swap` puts into the store."""
