"""The flow of one search, as generators that yield steps and receive their results.

`answer` is the search as its caller sees it. `personal` runs beside it, and launches `exploration`. A shell performs the steps that
they yield and sends the results in; a shell takes no decision. A leg's error is thrown in as LegFault. The only errors that leave
`answer` are those of the caller's own search.
"""
