"""The DSL of opensearch-py: `Search(using=…)` takes the wrapped client, and its searches are personalized.

python dsl_search.py
"""

from __future__ import annotations

from opensearchpy import Q, Search

from rewriter import Rewriter, Subject

with Rewriter.from_settings("rewriter.toml") as rewriter:
    rewriter.wait_ready(30)  # a server need not wait: until then it serves the pages of today
    search = Search(using=rewriter.wrap(), index="films").query(Q("match", title="last night"))[:7]
    with rewriter.subject(Subject(user_id="anna", session_id="s-1")):
        for film in search.execute():
            print(f"{film.title:16} {film.director}")
