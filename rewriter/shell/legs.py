"""The parts of optional legs that both shells share: a client made from settings, faults, and the sizes of answers."""

from __future__ import annotations

import marshal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from rewriter.client.batch import answers_of
from rewriter.client.registry import library
from rewriter.client.seam import LegFault, RequestFailed, SearchClient, leg_fault
from rewriter.errors import ConfigurationError, Fault
from rewriter.flow.steps import SearchLeg
from rewriter.settings import OpenSearchSettings


def connect(settings: OpenSearchSettings, connections: int, *, is_async: bool = False) -> SearchClient:
    """Return a client with the settings of `[opensearch]`, and with this many connections to each host.

    Raises ConfigurationError if its library is not installed.
    """
    try:
        found = library(settings.client)
    except ImportError:
        remedy = f"pip install 'rewriter[{settings.client}]'"
        raise ConfigurationError(
            [Fault("opensearch.client", f"the client library of {settings.client} is not installed", remedy)]
        ) from None
    return found.connect(settings.connection(connections), is_async=is_async)


@contextmanager
def failing_as(client: SearchClient) -> Iterator[None]:
    """Turn an error of a read of index facts into RequestFailed, with the rights that the read needs."""
    try:
        yield
    except client.errors as error:
        needs = " and ".join(dict.fromkeys((client.rights["mapping"], client.rights["settings"])))
        raise RequestFailed(client.fault_of(error), needs) from error


class FaultsOf:
    """A context manager that turns every error of a client into a LegFault."""

    __slots__ = ("_client",)

    def __init__(self, client: SearchClient) -> None:
        self._client = client

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, LegFault):
            raise leg_fault(self._client.fault_of(error)) from None


def answers_to(steps: Sequence[SearchLeg], body: Any) -> list[Any]:
    """Return the response of each leg that was sent with the others in one request, or its LegFault."""
    answers = answers_of(body, len(steps))
    for step, answer in zip(steps, answers, strict=True):
        if not isinstance(answer, LegFault):
            note_size(step, 0, answer)
    return answers


def note_size(step: SearchLeg, size: int, response: Any = None) -> None:
    """Report the size of a leg's answer to its flow: the bytes of its text, or an estimate if the client does not show them."""
    hits = None if response is None else response["hits"]["hits"]
    if not size and hits:
        with suppress(ValueError):  # objects of the caller's own deserializer have no known size
            size = len(marshal.dumps(hits))
    step.sized(size, None if hits is None else len(hits))
