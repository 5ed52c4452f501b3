"""Secrets in settings: URLs whose credentials never show, and texts that are stripped of them before they are shown."""

from __future__ import annotations

import re

from pydantic import Secret

_USERINFO = re.compile(r"(?<=://)\S*@")
_PASSWORD = re.compile(r"(?i)(\b[a-z_]*password=)[^&\s'\"]+")


def without_credentials(text: str) -> str:
    """Return a text whose URLs hold neither user nor password.

    Everything between `://` and the last `@` of a URL is left out, since a password may hold `/`, `?` or `@` itself.
    """
    return _PASSWORD.sub(r"\1…", _USERINFO.sub("", text))


def shown_url(url: str) -> str:
    """Return what may be shown of a URL, or of a HOST:PORT: all but its user, its password and its options."""
    before, at, rest = url.rpartition("@")
    scheme = f"{before.partition('://')[0]}://" if at and "://" in before else ""
    return f"{scheme}{rest.partition('?')[0]}"


class SecretUrl(Secret[str]):
    """A URL that may hold credentials: `str` and `repr` show it without them, `get_secret_value()` returns it whole."""

    def _display(self) -> str:
        return shown_url(self.get_secret_value())
