"""Signal store in process memory: for tests, a first try, and installations of one process. Its data ends with the process.

It implements Redis's semantics of the few commands that `commands` builds, so that a read has the same meaning on both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import inf
from threading import Lock
from typing import Any

from rewriter.signals.command_store import AsyncCommandStore, CommandStore
from rewriter.signals.commands import REPLACE, SAVE_PLAN, WRITE, Command, sha1_of

SWEEP_PERIOD_S = 60.0


class MemoryStore(CommandStore):
    """A thread-safe Store in dicts. `clock_s` is the clock (monotonic seconds) by which keys expire."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._lock = Lock()
        self._kept: dict[str, tuple[float, Any]] = {}  # expiry time, value
        self._sweep_at_s = clock_s() + SWEEP_PERIOD_S

    def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:  # noqa: ARG002  always atomic
        """See CommandStore.run."""
        with self._lock:
            self._sweep()
            return [self._reply(command) for command in wanted]

    def ping(self) -> None:
        """See Store.ping."""

    def close(self) -> None:
        """See Store.close."""

    def _reply(self, command: Command) -> Any:  # noqa: PLR0912  one for each command
        match command:
            case ("ZRANGE", key, 0, last, "REV", "WITHSCORES"):
                ranked = sorted(self._found(key, {}).items(), key=lambda item: (item[1], item[0]), reverse=True)
                return [part for item in ranked[: last + 1] for part in item]
            case ("HMGET", key, *names):
                known = self._found(key, {})
                return [known.get(name) for name in names]
            case ("HGETALL", key):
                return {name.encode(): value for name, value in self._found(key, {}).items()}
            case ("HGET", key, name):
                return self._found(key, {}).get(name)
            case ("ZSCAN", key, *_):
                return 0, list(self._found(key, {}).items())
            case ("GET", key):
                return self._found(key, None)
            case ("GETRANGE", key, first, last):
                return self._found(key, b"")[first : last + 1]
            case ("ZADD", key, *parts):
                scored = {raw: float(score) for score, raw in zip(parts[::2], parts[1::2], strict=True)}
                self._kept[key] = (inf, self._found(key, {}) | scored)
            case ("ZREMRANGEBYSCORE", key, "-inf", highest):
                left = {raw: score for raw, score in self._found(key, {}).items() if score > float(highest)}
                self._kept[key] = (self._kept[key][0], left)
            case ("HSET", key, *parts):
                self._kept[key] = (inf, self._found(key, {}) | dict(zip(parts[::2], parts[1::2], strict=True)))
            case ("EVAL", str(script), 1, key, last, before, raw) if script == REPLACE:
                if self._found(key, b"")[: last + 1] != before:
                    return 0
                self._kept[key] = (inf, raw)
                return 1
            case ("EVAL", str(script), 2, key, m, raw, ttl_s, forgotten_s, base, _) if script == SAVE_PLAN:
                if float(self._found(m, {}).get("forgotten") or 0.0) > float(forgotten_s):
                    return 0
                if base and (now := self._found(key, b"")) and sha1_of(now) != base:
                    return now
                self._kept[key] = (self._clock_s() + ttl_s, raw)
                return 1
            case ("SET", key, raw, *how):
                if "NX" in how and self._found(key, None) is not None:
                    return None
                ttl_s = how[-1] / (1000.0 if "PX" in how else 1.0) if how else inf
                self._kept[key] = (self._clock_s() + ttl_s, raw.encode() if isinstance(raw, str) else raw)
                return True
            case ("EXPIRE", key, ttl_s) if key in self._kept:
                self._kept[key] = (self._clock_s() + ttl_s, self._kept[key][1])
            case ("EVAL", str(script), 6, z, m, written, _, c, written_c, ttl_s, _, _, *meta) if script == WRITE:
                until_s = self._clock_s() + ttl_s if ttl_s != "" else inf
                self._kept[z] = (until_s, self._found(written, {}))
                self._kept[m] = (until_s, dict(zip(meta[::2], meta[1::2], strict=True)))
                self._kept[c] = (until_s, self._found(written_c, {}))
                for staged in (written, written_c):
                    self._kept.pop(staged, None)
                return 1
            case ("UNLINK" | "DEL", *keys):
                for key in keys:
                    self._kept.pop(key, None)
        return None

    def _found(self, key: str, nothing: Any) -> Any:
        until_s, value = self._kept.get(key, (0.0, nothing))
        return value if self._clock_s() < until_s else nothing

    def _sweep(self) -> None:
        """Remove expired keys once per SWEEP_PERIOD_S; plans and sessions that are never read again would otherwise stay."""
        now_s = self._clock_s()
        if now_s >= self._sweep_at_s:
            self._sweep_at_s = now_s + SWEEP_PERIOD_S
            self._kept = {key: kept for key, kept in self._kept.items() if now_s < kept[0]}


class AsyncMemoryStore(AsyncCommandStore):
    """A MemoryStore as an AsyncStore."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.shared = store or MemoryStore()

    async def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        """See CommandStore.run."""
        return self.shared.run(wanted, atomic=atomic)

    async def ping(self) -> None:
        """See Store.ping."""

    async def close(self) -> None:
        """See Store.close."""
