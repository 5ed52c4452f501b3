"""What `rewriter demo` shows, and the engines it runs on."""
