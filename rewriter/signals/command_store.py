"""Base classes of stores, for threads and for the event loop: all methods in terms of `commands`; a subclass only runs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rewriter.errors import StoreError
from rewriter.signals.class_counters import ClassCounters
from rewriter.signals.commands import (
    Command,
    announce_commands,
    announced_commands,
    announced_names,
    at_once,
    commands,
    many,
    many_counters,
    names_command,
    plan_commands,
    plans_in,
    put_command,
    replace_command,
    signals,
    text_command,
    text_in,
    write_commands,
)
from rewriter.signals.counters import Counters
from rewriter.signals.store import NewPlan, SavedPlans, Signals, SignalsQuery

CHANGE_TRIES = 100
"""Attempts to change a text that other clients change concurrently; in each round at least one client succeeds."""


class CommandStore(ABC):
    """A Store whose subclass runs commands."""

    @abstractmethod
    def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        """Send all commands at once and return their replies; the reply of a failed command is its exception.

        atomic: run them as one transaction, and raise the first failure.
        """

    @abstractmethod
    def ping(self) -> None:
        """See Store.ping."""

    @abstractmethod
    def close(self) -> None:
        """See Store.close."""

    def read(self, query: SignalsQuery) -> Signals:
        """See Store.read."""
        return signals(query, self.run(commands(query)))

    def save_plans(self, plans: Sequence[NewPlan]) -> SavedPlans:
        """See Store.save_plans."""
        return plans_in(plans, self.run(plan_commands(plans)))

    def write(
        self, base: str, counters: Counters, ttl_s: int | None, classes: Mapping[str, ClassCounters] | None = None
    ) -> bool:
        """See Store.write."""
        return bool(all_answered(self.run(write_commands(base, counters, ttl_s, classes)))[-1])

    def read_many(self, bases: Sequence[str], fields: tuple[str, ...], limit: int) -> list[Counters | None]:
        """See Store.read_many."""
        found: list[Counters | None] = []
        for chunk, wanted in many(bases, fields, limit):
            found += many_counters(chunk, self.run(wanted), fields)
        return found

    def read_text(self, key: str) -> str | None:
        """See Store.read_text."""
        return text_in(answered(self.run([text_command(key)])))

    def write_text(self, key: str, text: str) -> None:
        """See Store.write_text."""
        answered(self.run([put_command(key, text.encode())]))

    def change_text(self, key: str, edit: Callable[[str | None], str | None]) -> None:
        """See Store.change_text."""
        for _ in range(CHANGE_TRIES):
            before = answered(self.run([text_command(key)]))
            text = edit(text_in(before))
            if text is None or answered(self.run([replace_command(key, before, text.encode())])) == 1:
                return
        raise StoreError(f"{key}: other clients changed it during each of {CHANGE_TRIES} attempts; nothing was written")

    def announce(self, key: str, name: str, text: str, now_s: float) -> None:
        """See Store.announce."""
        for reply in self.run(announce_commands(key, name, text, now_s)):
            answered([reply])

    def announced(self, key: str) -> dict[str, str]:
        """See Store.announced."""
        names = announced_names(answered(self.run([names_command(key)])))
        replies: list[Any] = []
        for some in at_once(names):
            replies += self.run(announced_commands(key, some))
        return {name: text for name, reply in zip(names, replies, strict=True) if (text := text_in(answered([reply])))}


class AsyncCommandStore(ABC):
    """An AsyncStore whose subclass runs commands."""

    @abstractmethod
    async def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        """See CommandStore.run."""

    @abstractmethod
    async def ping(self) -> None:
        """See Store.ping."""

    @abstractmethod
    async def close(self) -> None:
        """See Store.close."""

    async def read(self, query: SignalsQuery) -> Signals:
        """See Store.read."""
        return signals(query, await self.run(commands(query)))

    async def save_plans(self, plans: Sequence[NewPlan]) -> SavedPlans:
        """See Store.save_plans."""
        return plans_in(plans, await self.run(plan_commands(plans)))

    async def write(
        self, base: str, counters: Counters, ttl_s: int | None, classes: Mapping[str, ClassCounters] | None = None
    ) -> bool:
        """See Store.write."""
        return bool(all_answered(await self.run(write_commands(base, counters, ttl_s, classes)))[-1])

    async def read_many(self, bases: Sequence[str], fields: tuple[str, ...], limit: int) -> list[Counters | None]:
        """See Store.read_many."""
        found: list[Counters | None] = []
        for chunk, wanted in many(bases, fields, limit):
            found += many_counters(chunk, await self.run(wanted), fields)
        return found

    async def read_text(self, key: str) -> str | None:
        """See Store.read_text."""
        return text_in(answered(await self.run([text_command(key)])))

    async def write_text(self, key: str, text: str) -> None:
        """See Store.write_text."""
        answered(await self.run([put_command(key, text.encode())]))

    async def announce(self, key: str, name: str, text: str, now_s: float) -> None:
        """See Store.announce."""
        for reply in await self.run(announce_commands(key, name, text, now_s)):
            answered([reply])

    async def announced(self, key: str) -> dict[str, str]:
        """See Store.announced."""
        names = announced_names(answered(await self.run([names_command(key)])))
        replies: list[Any] = []
        for some in at_once(names):
            replies += await self.run(announced_commands(key, some))
        return {name: text for name, reply in zip(names, replies, strict=True) if (text := text_in(answered([reply])))}


def all_answered(replies: Sequence[Any]) -> Sequence[Any]:
    """Return the replies. Raises the first that is an exception."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def answered(replies: Sequence[Any]) -> Any:
    """Return the reply to a single command. Raises it if it is an exception."""
    (reply,) = replies
    if isinstance(reply, Exception):
        raise reply
    return reply
