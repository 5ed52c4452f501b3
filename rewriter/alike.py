"""Copies of an answer's mappings in their own class: a caller's deserializer may build mappings of another class than dict."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


def alike(original: Mapping[str, Any], items: dict[str, Any]) -> Any:
    """Return a mapping of the class of `original` with `items`; a dict if that class cannot be built from them.

    items: a new dict of the caller's, which is returned itself where a dict is wanted.

    A class with `__copy__` is copied and refilled. Any other class is called with the items, as `object_hook` calls it, since a
    shallow copy may keep attributes of the original.
    """
    kind: Any = type(original)
    if kind is dict:
        return items
    try:
        made = _filled(original, items) if hasattr(kind, "__copy__") else kind(dict(items))
        return made if type(made) is kind and made == items else items
    except Exception:  # noqa: BLE001  whatever a class of the caller's own raises, a dict holds the same
        return items


def _filled(original: Any, items: Mapping[str, Any]) -> Any:
    made = copy.copy(original)
    if made is not original:
        made.clear()
        made.update(items)
    return made
