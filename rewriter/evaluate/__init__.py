"""Offline evaluation: judged searches are answered by the flow's own code, with signals as of each search, and scored."""
