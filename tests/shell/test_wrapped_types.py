"""A wrapped client has the type of the client that it wraps, for type checkers; and says once what it cannot personalize."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, assert_type

import pytest
from elasticsearch import AsyncElasticsearch, Elasticsearch
from opensearchpy import AsyncOpenSearch, OpenSearch

from rewriter import AsyncRewriter, Rewriter
from rewriter.shell import wrap

HOST = "http://127.0.0.1:9"

if TYPE_CHECKING:
    assert_type(Rewriter(OpenSearch()).wrap(), OpenSearch)
    assert_type(Rewriter(Elasticsearch(HOST)).wrap(), Elasticsearch)
    assert_type(AsyncRewriter(AsyncOpenSearch()).wrap(), AsyncOpenSearch)
    assert_type(AsyncRewriter(AsyncElasticsearch(HOST)).wrap(), AsyncElasticsearch)
    assert_type(Rewriter.from_settings("rewriter.toml").wrap(), Any)


@pytest.mark.parametrize(
    ("client", "calls"),
    [
        (OpenSearch([HOST]), ["search_template", "scroll", "msearch_template"]),
        (Elasticsearch(HOST), ["search_template", "scroll", "async_search"]),
    ],
)
def test_calls_that_cannot_be_personalized_are_logged_once_in_a_process(
    client: Any, calls: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrap, "_warned", set())
    with caplog.at_level(logging.WARNING, "rewriter"), Rewriter(client) as rewriter:
        for _ in range(3):
            wrapped = rewriter.wrap()
            assert wrapped.count == client.count
            for call in calls:
                assert getattr(wrapped, call) == getattr(client, call)
    said = [record.getMessage() for record in caplog.records if "cannot be personalized" in record.getMessage()]
    assert [line.partition(" ")[0] for line in said] == calls
