"""The fault suite: it causes faults under load and checks every answer, to show that personalization cannot harm a search.

`scene` is the shop and its subjects, `load` sends the searches, and `catalogue` lists the faults (of `of_store`, `of_legs` and
`of_process`). `trial` runs one fault under load. `table` prints the results and writes them into docs/safety.md. `mixups` and
`processes` are separate proofs. `make faults` runs everything.
"""
