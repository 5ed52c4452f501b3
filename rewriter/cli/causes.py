"""The cause of a failed call to a server, in a few words without credentials, and the rights that a refused call needs."""

from __future__ import annotations

import re

from opensearchpy.exceptions import AuthenticationException, AuthorizationException, TransportError

from rewriter.secret import without_credentials

RIGHTS = {
    "info": "cluster:monitor/main",
    "mapping": "indices:admin/mappings/get",
    "settings": "indices:monitor/settings/get",
    "validate": "indices:admin/validate/query",
    "search": "indices:data/read/search",
}
"""The permission of each call, as the security plugin of OpenSearch names it. Only `search` is needed for searches to go on."""

_OS_ERROR = re.compile(r"\[(?:Errno -?\d+|SSL[^\]]*)\] ([^'\"()<>\[\]\n]+)")
MAX_CHARS = 160


def cause_of(error: Exception) -> str:
    """Return what kept a server from answering: `ConnectionError (Connection refused)`, `401 (Unauthorized)`."""
    said = without_credentials(f"{getattr(error, 'info', '') or ''}\n{error}")
    if found := _OS_ERROR.search(said):
        return f"{type(error).__name__} ({found[1].strip()})"
    status = getattr(error, "status_code", None)
    if isinstance(error, TransportError) and isinstance(status, int):
        return f"{type(error).__name__} ({status})"
    return type(error).__name__


def refused(error: Exception) -> bool:
    """Whether the server knows the caller's credentials or rights to be too little."""
    return isinstance(error, (AuthenticationException, AuthorizationException))


def rights_for(call: str, index: str = "") -> str:
    """Return what to do where a call was refused."""
    on = f" on {index}" if index else ""
    return f"the role needs `{RIGHTS[call]}`{on}"
