"""The proof that nothing personal can hurt a search: faults made on purpose, under load, and every answer checked.

`scene` is the shop and its subjects, `load` the searches, `catalogue` the faults (made by `of_store`, `of_legs`, `of_process`),
`trial` one fault under load, `table` what is printed and written into docs/safety.md. `mixups` and `processes` are proofs of
their own. `make faults` runs all of it.
"""
