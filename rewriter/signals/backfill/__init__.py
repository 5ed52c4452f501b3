"""Months of history become profiles, segments aside: `history` adds up, `swap` puts into the store."""
