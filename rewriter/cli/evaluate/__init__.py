"""`rewriter evaluate`: policies on judged searches, on the real index, with the signals that each person had at the time."""
