"""The whole search, as generators that ask and are answered.

`answer` is the search as its caller sees it, `personal` runs beside it, then `exploration`. A shell performs the steps that
they yield and sends the results in; no decision stands in a shell. A leg's error is thrown in as LegFault. Nothing leaves
`answer` but what the caller's own search raised.
"""
