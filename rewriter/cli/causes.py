"""The client of a command, and short texts on its failed calls, without credentials and with the permissions that they need."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager

from rewriter.client.faults import server_cause
from rewriter.client.registry import library
from rewriter.client.seam import ClientFault, SearchClient
from rewriter.errors import ConfigurationError, Fault
from rewriter.secret import without_credentials
from rewriter.settings import OpenSearchSettings
from rewriter.shell.legs import connect

_OS_ERROR = re.compile(r"\[(?:Errno -?\d+|SSL[^\]]*)\] ([^'\"()<>\[\]\n]+)")
BAD_REQUEST = 400
NOWHERE = logging.NullHandler()


def own_client(settings: OpenSearchSettings, connections: int = 1) -> SearchClient:
    """Return a client for a command: no retries, and no log lines, since a command reports errors itself.

    Raises ConfigurationError if its library is not installed.
    """
    client = connect(settings, connections).cloned(connections)
    quiet(settings)
    return client


@contextmanager
def client_of(
    settings: OpenSearchSettings, timeout_s: float, connections: int, remedy: str = ""
) -> Iterator[SearchClient]:
    """Yield a client with a time-out of its own; its errors end the command with exit code 2 and the remedy."""
    hosts = ", ".join(map(str, settings.hosts))
    with closing(own_client(settings.model_copy(update={"timeout_s": timeout_s}), connections)) as client:
        try:
            yield client
        except client.errors as error:
            cause = search_cause_of(error, client.fault_of(error))
            raise ConfigurationError([Fault(hosts, f"the search failed: {cause}", remedy)]) from None


def quiet(settings: OpenSearchSettings) -> None:
    """Keep the log lines of the client library from standard error, unless a handler is configured."""
    for name in library(settings.client).LOGGERS:
        logging.getLogger(name).addHandler(NOWHERE)


def cause_of(error: Exception, fault: ClientFault) -> str:
    """Return why a server gave no answer: `ConnectionError (Connection refused)`, `AuthenticationException (401)`."""
    text = without_credentials(f"{getattr(error, 'info', '') or ''}\n{error}\n{fault.error}")
    if found := _OS_ERROR.search(text):
        return f"{fault.name} ({found[1].strip()})"
    return fault.name if fault.status is None else f"{fault.name} ({fault.status})"


def search_cause_of(error: Exception, fault: ClientFault) -> str:
    """Return why a search gave no answer; where the server refused the body, its own words too."""
    kind, reason = server_cause(fault.body) if fault.status == BAD_REQUEST else ("", "")
    return ": ".join(filter(None, (cause_of(error, fault), kind, without_credentials(reason))))


def rights_for(client: SearchClient, *calls: str, index: str = "") -> str:
    """Return the remedy for refused calls: the permissions that the role needs."""
    on = f" on {index}" if index else ""
    return f"the role needs {' and '.join(dict.fromkeys(f'`{client.rights[call]}`' for call in calls))}{on}"
