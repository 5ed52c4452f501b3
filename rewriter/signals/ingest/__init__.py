"""Ingest: workers that count the events of the streams into the counters that searches read. `docs/signals.md` is the contract.

contract   the keys, the partition of an event, its append
scripts    the server's atomic scripts: apply.lua has the arithmetic and the watermarks
leases     the assignment of partitions to workers
batch      the changes of a batch of entries by key                                              (pure)
reading    the next entries of the held partitions
attempts   entries that an earlier attempt at a batch applied
dedupe     removal of duplicates and of erased subjects' events
apply      the application of changes to the keys, in small calls
commit     the end of a batch: position, counts, dead letters, waiting entries
objects    the documents of events' objects, from the index
erasure    the removal of subjects (`rewriter forget`)
health     lag, backlog and loss
worker     the loop
"""
