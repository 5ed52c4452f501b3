"""Checks of what a rewriter is made of: client, settings, hooks. What cannot serve is refused here, in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, Literal

from rewriter.errors import ConfigurationError, Fault
from rewriter.observe.hooks import Hook
from rewriter.settings import Settings

Shell = Literal["Rewriter", "AsyncRewriter"]
CLIENTS: Mapping[Shell, str] = {"Rewriter": "OpenSearch", "AsyncRewriter": "AsyncOpenSearch"}


def checked_hooks(shell: Shell, client: Any, leg_client: Any, settings: Any, hooks: Any) -> tuple[Hook, ...]:
    """Return the hooks, read once. Raises ConfigurationError with everything that cannot serve a rewriter of this kind."""
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
        faults.append(Fault("hooks", f"{_kind(hooks)} is no list of hooks", "give hooks=[function]"))
    if faults:
        raise ConfigurationError(faults)
    return read


def _client_faults(shell: Shell, where: str, client: Any, leg_client: Any) -> list[Fault]:
    """Return what is wrong with a client. One that stands in for another (a proxy) can serve where a leg client is given."""
    wanted = CLIENTS[shell]
    kinds = {base.__name__ for base in type(client).__mro__ if base.__module__.startswith("opensearchpy")}
    what = f"{_kind(client)} is no {wanted}"
    other = next(one for name, one in CLIENTS.items() if name != shell)
    if wanted in kinds:
        return []
    if other in kinds:
        right = next(name for name, one in CLIENTS.items() if one == other)
        return [Fault(where, what, f"give it to {right}, or make it an opensearchpy.{wanted}")]
    if type(client).__module__.partition(".")[0] in ("elasticsearch", "elasticsearch_dsl", "elastic_transport"):
        return [Fault(where, what, "Elasticsearch clients are not supported yet")]
    if isinstance(client, (str, bytes, Mapping, type)) or not callable(getattr(client, "search", None)):
        return [Fault(where, what, f"give {where}=opensearchpy.{wanted}(hosts=…)")]
    if leg_client is None:
        remedy = f"give leg_client=opensearchpy.{wanted}(…), by which the rewriter sends its own searches"
        return [Fault(where, f"{what}, and no client with connections of its own can be made from it", remedy)]
    return []


def _is_async(hook: Any) -> bool:
    """Whether calling a hook would only make a coroutine: an async function, a partial of one, an object called as one."""
    while isinstance(hook, partial):
        hook = hook.func
    called = (hook, getattr(hook, "__call__", None))  # noqa: B004  it is looked at, not asked for
    return any(map(iscoroutinefunction, called)) or any(map(isasyncgenfunction, called))


def _called(hook: Any) -> str:
    while isinstance(hook, partial):
        hook = hook.func
    return str(getattr(hook, "__qualname__", None) or _kind(hook))


def _kind(given: Any) -> str:
    kind = given if isinstance(given, type) else type(given)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"the class {name}" if isinstance(given, type) else f"a {name}"
