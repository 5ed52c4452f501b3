"""`rewriter diff`: two versions of settings and templates, over a file of logged searches."""
