"""Redaction of credentials: a URL type that hides them, and functions that remove them from a text before it is shown."""

from __future__ import annotations

import re

from pydantic import Secret

_USERINFO = re.compile(r"(?<=://)\S*@")
_PASSWORD = re.compile(r"(?i)(\b[a-z_]*password=)[^&\s'\"]+")


def without_credentials(text: str) -> str:
    """Return `text` without the user and password of its URLs.

    Everything between `://` and the last `@` of a URL is removed, since a password may contain `/`, `?` or `@`.
    """
    return _PASSWORD.sub(r"\1…", _USERINFO.sub("", text))


def shown_url(url: str) -> str:
    """Return a URL, or a HOST:PORT, without its user, password and query string."""
    before, at, rest = url.rpartition("@")
    scheme = f"{before.partition('://')[0]}://" if at and "://" in before else ""
    return f"{scheme}{rest.partition('?')[0]}"


class SecretUrl(Secret[str]):
    """A URL that may contain credentials: `str` and `repr` hide them, `get_secret_value()` returns the whole URL."""

    def _display(self) -> str:
        return shown_url(self.get_secret_value())
