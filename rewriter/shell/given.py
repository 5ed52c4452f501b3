"""The arguments of a rewriter, checked: each wrong one gets a sentence that names the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction
from logging import getLogger
from typing import Any, Literal

from rewriter.boost.templates import TemplateSet
from rewriter.client.own_parts import NotCloned, own_methods, set_methods
from rewriter.client.registry import DEFAULT, around, library, library_of
from rewriter.client.seam import SearchClient
from rewriter.errors import ConfigurationError, Fault
from rewriter.observe.hooks import Hook, Hooks
from rewriter.settings import Settings
from rewriter.shell.template_files import load_templates
from rewriter.signals.store import StoreName

_log = getLogger("rewriter")
BESIDE_READS = 8
"""Connections of a store that its reads leave to switches, plans, events and `status()`."""

Shell = Literal["Rewriter", "AsyncRewriter"]
KINDS: Mapping[Shell, Literal["sync", "async"]] = {"Rewriter": "sync", "AsyncRewriter": "async"}


def checked_hooks(shell: Shell, client: Any, leg_client: Any, settings: Any, hooks: Any) -> tuple[Hook, ...]:
    """Return the hooks, read once. Raises ConfigurationError with every argument that this kind of rewriter cannot use."""
    faults = _client_faults(shell, "client", client, leg_client)
    if leg_client is not None:
        faults += _client_faults(shell, "leg_client", leg_client, leg_client)
    if settings is not None and not isinstance(settings, Settings):
        remedy = "give Settings.from_toml(path), or Settings.model_validate(dict)"
        faults.append(Fault("settings", f"{_kind(settings)} is no Settings", remedy))
    read: tuple[Any, ...] = ()
    if isinstance(hooks, Iterable) and not isinstance(hooks, str):
        read = tuple(hooks)
        wrong = [one for one in read if not callable(one)]
        faults += [Fault("hooks", f"{_kind(one)} cannot be called", "give functions of SearchDetails") for one in wrong]
        remedy = "give a plain function, which may start a task of its own"
        never = [one for one in read if _is_async(one)]
        faults += [
            Fault("hooks", f"{_called(one)} is async, and hooks are called, not awaited", remedy) for one in never
        ]
    else:
        faults.append(Fault("hooks", f"{_kind(hooks)} is not a list of hooks", "give hooks=[function]"))
    if faults:
        raise ConfigurationError(faults)
    return read


@dataclass(frozen=True, slots=True)
class Given:
    """The arguments of a rewriter, checked, each client behind the protocol of clients.

    stores: a URL, a client or a Store each; None where there is none.
    """

    settings: Settings
    client: SearchClient
    leg_client: SearchClient | None
    stores: Mapping[StoreName, Any]
    hooks: Hooks
    templates: Mapping[str, TemplateSet]

    def cloned(self, shell: Shell, raw: Any) -> SearchClient:
        """Return a client for the optional legs, made of the caller's, which is `raw`. See clone_of."""
        return clone_of(shell, raw, self.client, self.settings.leg_connections)

    @property
    def store_options(self) -> dict[str, int]:
        """The bounds of a store's client: its connections, and the largest answer in bytes."""
        return {
            "connections": self.settings.store_reads + BESIDE_READS,
            "max_answer_bytes": self.settings.store.max_answer_bytes,
        }


def checked(
    shell: Shell, client: Any, store: Any, settings: Settings | None, profile_store: Any, leg_client: Any, hooks: Any
) -> Given:
    """Return the arguments of a rewriter, with what the settings hold for those that are missing.

    Raises ConfigurationError with every argument that this kind of rewriter cannot use, or every fault of the templates.
    """
    read_hooks = checked_hooks(shell, client, leg_client, settings, hooks)
    settings = settings or Settings()
    is_async = KINDS[shell] == "async"
    url, profile_url = settings.store.plain_urls
    return Given(
        settings,
        around(client, leg_client, is_async=is_async),
        around(leg_client, client, is_async=is_async) if leg_client is not None else None,
        {
            "store": store if store is not None else url,
            "profile_store": profile_store if profile_store is not None else profile_url,
        },
        Hooks(read_hooks),
        load_templates(settings),
    )


def clone_of(shell: Shell, given: Any, client: SearchClient, connections: int) -> SearchClient:
    """Return a client for the optional legs, made of the caller's. Raises ConfigurationError where none can be made.

    given: what `client` is around. A transport of the caller's own may ask for arguments that nobody else knows.
    """
    own = library_of(given) or library(DEFAULT)
    try:
        clone = client.cloned(connections)
        own.check_clone(given, clone.raw)
    except Exception as error:
        cause = type(error).__name__
        if isinstance(error, TypeError):  # of a signature
            cause = f"{cause}: {error}"[:200]
        elif isinstance(error, NotCloned):
            cause = str(error)
        wanted = own.SYNC if KINDS[shell] == "sync" else own.ASYNC
        remedy = f"give leg_client={wanted}(…), by which the rewriter sends its own searches"
        what = f"no client with connections of its own can be made from it ({cause})"
        raise ConfigurationError([Fault("client", what, remedy)]) from error
    if own_methods(clone.raw, own.SEARCHING, own.CLASSES):
        _log.warning(
            "client: optional legs go through a copy of the client, on other threads; if its class restricts what is found"
            " from search to search, set exploration_shared_by"
        )
    if replaced := set_methods(given, ("search", "msearch")):
        _log.warning(
            "client: `%s` is set on the object, and optional legs do not go through it; if it restricts what is found,"
            " %sgive leg_client",
            "` and `".join(replaced),
            "override it in a class or " if own.CLONES_SEARCH else "",
        )
    return clone


def _client_faults(shell: Shell, where: str, client: Any, leg_client: Any) -> list[Fault]:
    """Return the faults of a client. A proxy around a client is accepted if a leg client is given."""
    found = library_of(client)
    own = found or library_of(leg_client) or library(DEFAULT)
    wanted = own.SYNC if KINDS[shell] == "sync" else own.ASYNC
    kind = found.kind_of(client) if found else None
    if found is not None and kind == KINDS[shell]:
        legs = library_of(leg_client)
        if where == "client" and legs not in (None, found):
            return [
                Fault("leg_client", f"{_kind(leg_client)} is of another client library", f"give leg_client={wanted}(…)")
            ]
        sends = where == "leg_client" or leg_client is None
        if sends and not found.CLONES_SEARCH and (unused := own_methods(client, found.SEARCHING, found.CLASSES)):
            return [_unused_methods(where, client, unused, wanted)]
        return []
    what = f"{_kind(client)} is not an {wanted.rpartition('.')[2]}"
    if kind is not None:
        right = next(name for name, one in KINDS.items() if one == kind)
        return [Fault(where, what, f"give it to {right}, or make it an {wanted}")]
    if isinstance(client, (str, bytes, Mapping, type)) or not callable(getattr(client, "search", None)):
        return [Fault(where, what, f"give {where}={wanted}(hosts=…)")]
    if leg_client is None:
        remedy = f"give leg_client={wanted}(…), by which the rewriter sends its own searches"
        return [Fault(where, f"{what}, and no client with connections of its own can be made from it", remedy)]
    return []


def _unused_methods(where: str, client: Any, names: Sequence[str], wanted: str) -> Fault:
    """Return the fault of a client whose own methods no optional leg goes through: the legs might find what these hide."""
    what = f"{_kind(client)} has its own {' and '.join(f'`{name}`' for name in names)}, which optional legs do not go through"
    if where == "leg_client":
        return Fault(where, what, f"give an {wanted} whose transport does the same")
    remedy = f"give leg_client={wanted}(…), by which the rewriter sends its own searches: it must restrict them as this client does"
    return Fault(where, what, remedy)


def _is_async(hook: Any) -> bool:
    """Whether calling a hook would only make a coroutine: an async function, a partial of one, an object called as one."""
    while isinstance(hook, partial):
        hook = hook.func
    called = (hook, getattr(hook, "__call__", None))  # noqa: B004  the attribute is inspected, not called
    return any(map(iscoroutinefunction, called)) or any(map(isasyncgenfunction, called))


def _called(hook: Any) -> str:
    while isinstance(hook, partial):
        hook = hook.func
    return str(getattr(hook, "__qualname__", None) or _kind(hook))


def _kind(given: Any) -> str:
    kind = given if isinstance(given, type) else type(given)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"the class {name}" if isinstance(given, type) else f"a {name}"
