"""The indices that the index argument of `rewriter init` stands for, and remedies if there are none."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from rewriter.cli.init.figures import plain
from rewriter.cli.init.index_profile import IndexProfile
from rewriter.client.seam import SearchClient
from rewriter.errors import ConfigurationError, Fault
from rewriter.expression import parsed_indices
from rewriter.index_facts import alias_paths, facts_of

TIMEOUT_S = 10
SUGGESTED = 10
BACKING = ".ds-"
"""The prefix of the names of a data stream's backing indices."""


def named_indices(argument: str) -> tuple[str, ...]:
    """Return the names that an index argument lists. Raises ConfigurationError for those that no policy can hold."""
    names = parsed_indices(argument) or (("*",) if argument.strip() == "_all" else ())
    if not names:
        raise ConfigurationError(
            [Fault("INDEX", "names no index", "give an index, an alias, a data stream or a pattern")]
        )
    faults = [
        Fault(
            f"INDEX {plain(name)}",
            "is in another cluster, whose mappings cannot be read from here",
            "run this on that cluster",
        )
        for name in names
        if ":" in name and not name.startswith("<")
    ]
    faults += [
        Fault(f"INDEX {plain(name)}", "is date math, which a policy does not accept", "use a pattern, such as logs-*")
        for name in names
        if name.startswith(("<", "-<"))
    ]
    if faults:
        raise ConfigurationError(faults)
    return names


def found_index(client: SearchClient, names: Sequence[str]) -> IndexProfile:
    """Return the indices that names stand for, with their mappings.

    Raises ConfigurationError, which lists existing names, if there is none; one of `client.errors` if the cluster refuses.
    """
    expression = ",".join(names)
    try:
        mappings = client.get_mapping(expression, {}, TIMEOUT_S)
        settings = client.get_settings(expression, "", {}, TIMEOUT_S)
    except client.errors as error:
        if client.fault_of(error).status != 404:
            raise
        raise ConfigurationError([_missing(client, expression)]) from None
    means_hidden = any(name.startswith(".") or not {"*", "?"} & set(name) for name in names)
    own = [name for name in mappings if name in settings and (means_hidden or not _is_hidden(name))]
    if not own:
        raise ConfigurationError([_missing(client, expression)])
    mappings, settings = {name: mappings[name] for name in own}, {name: settings[name] for name in own}
    if list(names) == ["*"]:
        expression = "*,-.*"
    return IndexProfile(
        expression,
        tuple(sorted(own)),
        facts_of(mappings, settings),
        is_data_stream=all(name.startswith(BACKING) for name in own),
        alias_fields=_alias_fields(mappings),
    )


def _is_hidden(name: str) -> bool:
    return name.startswith(".") and not name.startswith(BACKING)


def _alias_fields(mappings: dict[str, Any]) -> frozenset[str]:
    """Return the fields of type `alias` themselves."""
    if not alias_paths(mappings):
        return frozenset()

    def walk(properties: Any, prefix: str) -> list[str]:
        found = []
        for name, spec in properties.items():
            if spec.get("type") == "alias":
                found.append(prefix + name)
            found += walk(spec.get("properties", {}), f"{prefix}{name}.")
        return found

    return frozenset(
        name for answer in mappings.values() for name in walk(answer["mappings"].get("properties", {}), "")
    )


def _missing(client: SearchClient, expression: str) -> Fault:
    is_pattern = bool({"*", "?"} & set(expression))
    what = "no index matches" if is_pattern else "no index, alias or data stream has this name"
    there = _there(client)
    if not there:
        return Fault(f"INDEX {plain(expression)}", what, "the cluster holds none, or does not list them to you")
    near = get_close_matches(expression, there, 3, 0.5)
    listed = ", ".join(map(plain, near or there[:SUGGESTED])) + (", …" if not near and len(there) > SUGGESTED else "")
    return Fault(f"INDEX {plain(expression)}", what, f"{'did you mean' if near else 'there are'}: {listed}")


def _there(client: SearchClient) -> list[str]:
    """Return the names of all indices, aliases and data streams, or none if they cannot be listed."""
    try:
        found = client.resolve_index("*", TIMEOUT_S)
    except client.errors:
        return []
    names = {one["name"] for kind in ("indices", "aliases", "data_streams") for one in found.get(kind, [])}
    return sorted(name for name in names if not name.startswith("."))
