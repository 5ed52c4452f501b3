"""The client of a command, and short texts on its failed calls, without credentials and with the permissions that they need."""

from __future__ import annotations

import logging
import re

from rewriter.client.registry import library
from rewriter.client.seam import ClientFault, SearchClient
from rewriter.secret import without_credentials
from rewriter.settings import OpenSearchSettings
from rewriter.shell.legs import connect

_OS_ERROR = re.compile(r"\[(?:Errno -?\d+|SSL[^\]]*)\] ([^'\"()<>\[\]\n]+)")
NOWHERE = logging.NullHandler()


def own_client(settings: OpenSearchSettings) -> SearchClient:
    """Return a client for a command: one connection, no retries, and no log lines, since a command reports errors itself.

    Raises ConfigurationError if its library is not installed.
    """
    client = connect(settings, 1).cloned(1)
    quiet(settings)
    return client


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


def rights_for(client: SearchClient, *calls: str, index: str = "") -> str:
    """Return the remedy for refused calls: the permissions that the role needs."""
    on = f" on {index}" if index else ""
    return f"the role needs {' and '.join(dict.fromkeys(f'`{client.rights[call]}`' for call in calls))}{on}"
