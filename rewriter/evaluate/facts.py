"""Index facts for the core of a variant, read as the background of a service reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rewriter.boost.all_words import all_words
from rewriter.client.seam import SearchArguments, SearchClient
from rewriter.core import Core
from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate.variants import POLICY
from rewriter.expression import expression_of, parsed_indices
from rewriter.shell.background.index_reader import IndexReader
from rewriter.shell.background.sources import GetMapping, GetSettings
from rewriter.shell.drive import drive
from rewriter.shell.legs import failing_as


def read_facts(core: Core, client: SearchClient, searches: Sequence[SearchArguments]) -> None:
    """Read the facts of all searched indices, as the background of a service does. Raises the client's errors."""
    _facts_round(core, client, searches)
    before = {name: set(wanted) for name, wanted in core.wanted_fields.items()}
    facts = core.snapshot.facts
    for query in {repr(one.body.get("query")): one for one in searches}.values():
        key = expression_of(parsed_indices(query.index), {}).key
        if core.settings.policies[POLICY].all_words and key in facts:
            core.want_fields(POLICY, all_words(query.body.get("query"), facts[key]).unknown)
    if core.wanted_fields != before:
        _facts_round(core, client, searches)


def _facts_round(core: Core, client: SearchClient, searches: Sequence[SearchArguments]) -> None:
    reader = IndexReader(core, lambda: 0.0)
    for index in dict.fromkeys(one.index for one in searches):
        core.searched.note(expression_of(parsed_indices(index), {}), 0.0)

    def performed(step: object) -> Any:
        with failing_as(client):
            match step:
                case GetMapping(index, params, timeout_s):
                    return client.get_mapping(index, params, timeout_s)
                case GetSettings(index, names, params, timeout_s):
                    return client.get_settings(index, names, params, timeout_s)
        return None

    drive(reader.round(), performed)
    if reader.problems:
        raise ConfigurationError(
            [Fault("index facts", one, "searches pass through without them") for one in reader.problems]
        )
