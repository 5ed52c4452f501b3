"""From the streams of events to the counters that searches read. `docs/signals.md` is the contract.

contract   the keys, the partition of an event, how it is appended
scripts    what the server runs, atomically: apply.lua holds the arithmetic and the watermarks
leases     which worker holds which partition
batch      what a batch of entries asks of which key                                             (pure)
apply      sends that to the keys, in calls that are small
settling   ends a batch: position, counts, what is set aside
objects    what an event's object is, by the index
health     lag, backlog and loss
worker     the loop
"""
