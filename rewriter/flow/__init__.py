"""The whole search, as generators that ask and are answered.

`answer` is the search as its caller sees it, `personal` what runs beside it, `exploration` leg 3. A shell performs the steps that
they yield and sends the results in; no decision stands in a shell. A leg's error is thrown in as LegFault. Nothing leaves
`answer` but what the caller's own search raised.
"""
