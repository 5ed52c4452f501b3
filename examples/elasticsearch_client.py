"""The client of Elasticsearch: its own keyword form, and answers of its own type.

python elasticsearch_client.py
"""

from __future__ import annotations

import os

from elasticsearch import Elasticsearch

from rewriter import Rewriter, Subject

client = Elasticsearch(os.environ["ELASTICSEARCH_URL"])
with Rewriter.from_settings("rewriter.toml", client) as rewriter:
    rewriter.wait_ready(30)  # a server need not wait: until then it serves the pages of today
    with rewriter.subject(Subject(user_id="anna", session_id="s-1")):
        response = rewriter.wrap().search(index="films", query={"match": {"title": "last night"}}, size=7)
    print(f"{type(response).__name__} of status {response.meta.status}")
    for hit in response["hits"]["hits"]:
        print("{title:16} {director}".format(**hit["_source"]))
