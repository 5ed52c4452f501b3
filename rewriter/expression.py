"""Index expressions: the indices that a search names, with the URL parameters that change which indices are searched.

Index facts and quarantine are kept per expression: the facts of `products` need not hold for `products,archive`, nor for the same
names with `ignore_unavailable`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any, NamedTuple, Protocol
from weakref import ref

DEFAULTS: Mapping[str, str] = {"ignore_unavailable": "false", "allow_no_indices": "true", "expand_wildcards": "open"}
"""The URL parameters that change which indices are searched, with the server's defaults for a search."""

MAX_EXPRESSIONS = 4_096
"""Expressions that a process remembers; the least recently searched is dropped first."""

MAX_CHARS = 4_096
"""A longer expression is not remembered: a server refuses a URL with it, so its facts cannot be read. An `msearch` can name one."""

MAX_BYTES = 2 * 2**20
"""Memory of the remembered expressions. Facts, quarantine and faults of an expression last as long as it is remembered."""

BYTES_OF_AN_EXPRESSION, BYTES_OF_A_NAME = 400, 60
"""Memory besides the characters."""


ANOTHER_CLUSTER = "mappings and settings of another cluster's indices cannot be read"
"""Why a search of a remote index has no facts."""


class Expression(NamedTuple):
    """`indices` as a search names them, and the sorted `params` of DEFAULTS whose value is not the default."""

    indices: tuple[str, ...]
    params: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """The expression as text, like `products,archive-*?ignore_unavailable=true`: the key of facts and quarantine."""
        names = ",".join(self.indices)
        return names + "?" + "&".join(f"{name}={value}" for name, value in self.params) if self.params else names

    @property
    def exact(self) -> Expression | None:
        """The expression without parameters if it is one name and no pattern, else None.

        Parameters change the indices of such an expression only while there is no such index.
        """
        (name, *more) = self.indices or ("*",)
        return Expression(self.indices) if self.params and not more and not {"*", "?"} & set(name) else None

    @property
    def remote(self) -> bool:
        """Whether it names an index of another cluster, whose mappings and settings cannot be read through this one.

        Elasticsearch's `products::data` names a part of an index of this cluster.
        """
        return any(":" in name.replace("::", "") and not name.startswith(("<", "-<")) for name in self.indices)

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        texts = (*self.indices, *(text for pair in self.params for text in pair))
        return BYTES_OF_AN_EXPRESSION + BYTES_OF_A_NAME * len(texts) + sum(map(len, texts))

    @property
    def arguments(self) -> dict[str, str]:
        """The parameters for `_mapping` and `_settings`, whose own defaults differ from those of a search."""
        return {**DEFAULTS, **dict(self.params)}


def parsed_indices(index: Any) -> tuple[str, ...]:
    """Return the indices that an `index` argument names; () for all of them, and for a value that names none."""
    if isinstance(index, (list, tuple)) and all(isinstance(name, str) for name in index):
        index = ",".join(index)
    if not isinstance(index, str) or index == "_all":
        return ()
    return tuple(name for name in index.split(",") if name)


def expression_of(indices: tuple[str, ...], params: Mapping[str, Any]) -> Expression:
    """Return the expression of a search from its parsed `index` argument and the parameters of its URL."""
    if not params:
        return Expression(indices)
    given = ((name, _text(params[name])) for name in sorted(DEFAULTS) if name in params)
    return Expression(indices, tuple((name, text) for name, text in given if text != DEFAULTS[name]))


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(bool(value)).lower()
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


class Wakes(Protocol):
    """A reader that sleeps while nothing is new."""

    def wake(self) -> None:
        """Wake it, from any thread. Never waits, never raises."""


class Searched:
    """The searched expressions, each with the time of its last search: at most `limit`, and at most `max_bytes` of memory.

    The least recently searched is dropped first.

    Methods are called from many threads; time is an argument (monotonic seconds).
    """

    def __init__(self, limit: int = MAX_EXPRESSIONS, max_bytes: int = MAX_BYTES) -> None:
        self._limit = limit
        self._max_bytes = max_bytes
        self._bytes = 0
        self._lock = Lock()
        self._last_s: OrderedDict[Expression, float] = OrderedDict()
        self._new: dict[Expression, None] = {}
        self._gone: dict[Expression, None] = {}
        self._readers: tuple[ref[Wakes], ...] = ()

    def wakes(self, reader: Wakes) -> None:
        """Have `reader.wake` called when an expression is new, as long as the reader is there."""
        with self._lock:
            self._readers = (*(one for one in self._readers if one() is not None), ref(reader))

    def __len__(self) -> int:
        """Return the number of expressions."""
        return len(self._last_s)

    def note(self, expression: Expression, now_s: float) -> None:
        """Note that an expression was searched."""
        with self._lock:
            is_new = expression not in self._last_s
            if is_new:
                if len(expression.key) > MAX_CHARS:
                    return
                self._new[expression] = None
                self._bytes += expression.size
            self._last_s[expression] = now_s
            self._last_s.move_to_end(expression)
            while len(self._last_s) > self._limit or self._bytes > self._max_bytes:
                gone, _ = self._last_s.popitem(last=False)
                self._bytes -= gone.size
                if gone not in self._new:  # `take_gone` reports only what `take_new` has returned
                    self._gone[gone] = None
                self._new.pop(gone, None)
        if is_new:
            for held in self._readers:
                if (reader := held()) is not None:
                    reader.wake()

    @property
    def has_new(self) -> bool:
        """Whether `take_new` would return expressions."""
        return bool(self._new)

    def take_new(self) -> list[Expression]:
        """Return the expressions added since the last call."""
        if not self._new:
            return []
        with self._lock:
            new, self._new = list(self._new), {}
            return new

    def take_gone(self) -> list[Expression]:
        """Return the expressions dropped since the last call, of those that `take_new` returned. Some may have been added again."""
        if not self._gone:
            return []
        with self._lock:
            gone, self._gone = list(self._gone), {}
            return gone

    def last_s(self, expression: Expression) -> float | None:
        """Return when an expression was last searched (monotonic seconds), or None if it was dropped."""
        return self._last_s.get(expression)
