"""Searches as opensearch-py takes them, read for code that takes them from any client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewriter import parsed_search
from rewriter.client.opensearch import OpenSearchClient
from rewriter.client.seam import SearchArguments
from rewriter.parsed_search import ParsedSearch

SEAM = OpenSearchClient(object(), is_async=False)


def given(arguments: Mapping[str, Any]) -> SearchArguments:
    """Return the keyword arguments of one `OpenSearch.search` as the flow takes them."""
    return SEAM.read(arguments)


def parse_search(arguments: Mapping[str, Any], *others: Any) -> ParsedSearch:
    """Parse the keyword arguments of one `OpenSearch.search`."""
    return parsed_search.parse_search(given(arguments), *others)
