"""Texts on a store that fails: what is wrong, where, and what to do, without user, password or identifiers.

redis-py's own texts name no remedy, differ between its two shells, quote the user of a refused command, and for Sentinels the whole
client. `described` recognizes what they mean. An error carries the address of its store since `note_address` has seen it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from rewriter.errors import Fault
from rewriter.secret import shown_url, without_credentials

MAX_TEXT_CHARS = 160
"""Of a text that is not recognized."""
FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_ATTRIBUTE = "rewriter_store_address"


class FailureAddress(NamedTuple):
    """Where a store is, for texts.

    shown: its URL, or host and port, without credentials.
    kind:  "cluster", "sentinel", "unix", or "" for one server.
    files: the certificate files that its URL names, by option.
    """

    shown: str
    kind: str = ""
    is_encrypted: bool = False
    files: tuple[tuple[str, str], ...] = ()


class Failure(NamedTuple):
    """What is wrong with a store, and the remedy.

    is_lasting: whether it will fail until somebody changes settings or server: the server answered, or a file is missing here.
    """

    what: str
    remedy: str = ""
    is_lasting: bool = False


NOWHERE = FailureAddress("")


def address_of_url(url: str) -> FailureAddress:
    """Return the address in a URL that `redis_clients.store_address` accepts."""
    scheme = url.partition("://")[0]
    options = dict(parse_qsl(url.rpartition("@")[2].partition("?")[2]))
    files = tuple((name, options[name]) for name in FILES if name in options)
    kind = "unix" if scheme == "unix" else scheme.partition("+")[2]
    return FailureAddress(shown_url(url), kind, scheme.startswith("rediss"), files)


def address_of_client(client: Any) -> FailureAddress:
    """Return the address of a caller's redis-py client, of which a cluster's is that of its first node."""
    manager = getattr(client, "nodes_manager", None)
    if manager is not None:
        node = next(iter(manager.startup_nodes.values()), None)
        return FailureAddress("" if node is None else f"{node.host}:{node.port}", "cluster")
    pool = client.connection_pool
    arguments = pool.connection_kwargs
    if service := getattr(pool, "service_name", None):
        return FailureAddress(f"service {service}", "sentinel")
    if path := arguments.get("path"):
        return FailureAddress(str(path), "unix")
    files = tuple((name, str(arguments[name])) for name in FILES if arguments.get(name))
    is_encrypted = "SSL" in pool.connection_class.__name__
    return FailureAddress(f"{arguments.get('host')}:{arguments.get('port')}", "", is_encrypted, files)


def note_address(error: BaseException, address: FailureAddress) -> None:
    """Note at an error which store it came from."""
    setattr(error, _ATTRIBUTE, address)


def described(error: BaseException, *, quotes: bool = True) -> str:
    """Return a store's error as text: its class, the store's address, what is wrong and what to do.

    quotes: whether an error that is not recognized is quoted; without it, its class is all, since a log may hold no identifier.
    """
    address, name = _address(error), type(error).__name__
    found = failure_of(error)
    if not found.what or not (quotes or found.remedy):
        return name
    return f"{name}: {Fault(address.shown, found.what, found.remedy) if address.shown else _sentence(found)}"


def fault_of(error: BaseException, where: str) -> Fault:
    """Return a store's error as a fault at `where`."""
    found, address = failure_of(error), _address(error)
    return Fault(where, f"{address.shown} {found.what}".strip() or type(error).__name__, found.remedy)


def failure_of(error: BaseException) -> Failure:
    """Return what is wrong with a store that raised an error. What is not recognized keeps its own text, without a remedy."""
    address = _address(error)
    text = " ".join(_texts(error))
    if "No master found for" in text:
        return _no_master(text, address)
    for pattern, found in _TABLE:
        if match := pattern.search(text):
            return found(match, address) if callable(found) else found
    own = without_credentials(str(error)).partition(", with args")[0]
    return Failure(" ".join(own.split())[:MAX_TEXT_CHARS].removesuffix(":"))


def _address(error: BaseException) -> FailureAddress:
    found = getattr(error, _ATTRIBUTE, NOWHERE)
    return found if isinstance(found, FailureAddress) else NOWHERE


def _sentence(found: Failure) -> str:
    return found.what + (f" ({found.remedy})" if found.remedy else "")


def _texts(error: BaseException | None) -> Iterator[str]:
    """Yield the texts of an error and of its causes, with their classes. The chain may contain a cycle."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield f"{type(error).__name__}: {error}"
        error = error.__cause__ or error.__context__


def _no_master(text: str, address: FailureAddress) -> Failure:
    """Return why Sentinels name no server. redis-py appends the class of the error of each one that does not answer."""
    errors = re.findall(r"> - (?:\w+:)?(\w+)", text)
    if errors and len(errors) > address.shown.count(","):
        if "AuthenticationError" in errors:
            remedy = "a URL has no password for Sentinels: let them do without, or pass a client of your own"
            return Failure("its Sentinels ask for a password", remedy, True)
        tls = ", and whether they speak TLS as rediss needs" if address.is_encrypted else ""
        remedy = f"start them, or correct hosts and ports: 26379 by default{tls}"
        return Failure(f"none of its Sentinels answers ({', '.join(dict.fromkeys(errors))})", remedy)
    service = re.search("No master found for '([^']*)'", text)
    remedy = "`SENTINEL MASTERS` lists the services: correct the name in the URL, or start the service's server"
    return Failure(f"its Sentinels know no running server of the service {service[1] if service else ''}", remedy)


def _closed(_: re.Match[str], address: FailureAddress) -> Failure:
    if address.is_encrypted:
        remedy = "has it another TLS version, or does it ask for a certificate: ssl_certfile and ssl_keyfile?"
    else:
        remedy = "did it restart? does it expect TLS: rediss://? are its maxclients reached?"
    return Failure("closes the connection", remedy)


def _late(_: re.Match[str], address: FailureAddress) -> Failure:
    if address.is_encrypted:
        return Failure("does not complete TLS in time", "a server without TLS needs redis://, or its tls-port")
    return Failure("does not accept a connection in time", "check host, port and firewall")


def _refuses(match: re.Match[str], address: FailureAddress) -> Failure:
    if address.kind == "unix":
        return Failure(
            "nothing listens on this socket", "start the server, or correct `unixsocket` there or the path here"
        )
    return Failure(f"nothing listens {_peer(match)}", "start the server, or correct host and port")


def _nameless(match: re.Match[str], _: FailureAddress) -> Failure:
    return Failure(
        f"no address is known for the name {_peer(match).removeprefix('at ')}", "correct it, or check the DNS"
    )


def _peer(match: re.Match[str]) -> str:
    """Return the server that an error's text names: of a cluster or of Sentinels it is one of several."""
    named = re.search(r"connecting to ([^\s,'\"]+?)\.(?:\s|$|['\"])", match.string)
    return f"at {named[1]}" if named else "there"


def _not_there(_: re.Match[str], address: FailureAddress) -> Failure:
    if address.kind == "unix":
        return Failure("there is no such socket", "start the server, or correct `unixsocket` there or the path here")
    missing = [f"{name}={path}" for name, path in address.files if not Path(path).exists()]
    return Failure(f"there is no file {', '.join(missing) or 'of a certificate'}", "correct the path in the URL", True)


def _not_allowed(_: re.Match[str], address: FailureAddress) -> Failure:
    if address.kind == "unix":
        return Failure("this process may not use the socket", "set the server's `unixsocketperm`, or its group")
    closed = [f"{name}={path}" for name, path in address.files if not os.access(path, os.R_OK)]
    if closed:
        return Failure(f"this process may not read {', '.join(closed)}", "give it the right to", True)
    return Failure("the system does not allow the connection", "check firewall and sandbox")


def _untrusted(match: re.Match[str], _: FailureAddress) -> Failure:
    why = match[1].strip(" .")
    if "mismatch" in why.lower() or "not valid for" in why:
        remedy = "use the host name that the certificate has"
    elif "expired" in why:
        remedy = "renew it"
    elif "not yet valid" in why:
        remedy = "compare the clocks"
    else:
        remedy = "name the file of its authority: ?ssl_ca_certs=/PATH/ca.pem"
    return Failure(f"its certificate is not accepted: {why}", remedy, True)


def _unknown_command(match: re.Match[str], address: FailureAddress) -> Failure:
    name = match[1].upper()
    if name == "SENTINEL":
        return Failure(
            "a server and no Sentinel answers", "name the Sentinels' port, 26379 by default, or use redis://", True
        )
    if address.kind != "sentinel" and name in BASIC:
        remedy = "for a Sentinel, use redis+sentinel://HOST:PORT/SERVICE; elsewhere undo its rename-command"
        return Failure(f"does not know {name}", remedy, True)
    return Failure(f"does not know {name}", "undo its rename-command, or use Redis ≥ 6.2 or Valkey", True)


BASIC = frozenset(
    {"EVAL", "EVALSHA", "GET", "HGET", "HGETALL", "HMGET", "SET", "SETEX", "XADD", "ZADD", "ZRANGE", "ZRANGEBYSCORE"}
)
"""Commands that each server knows, and no Sentinel."""

_Found = Failure | Callable[[re.Match[str], FailureAddress], Failure]
RIGHT = "ACL SETUSER gives it what rewriter needs: ~PREFIX:* +@read +@write +@scripting +time +ping +multi +exec"
_TABLE: tuple[tuple[re.Pattern[str], _Found], ...] = tuple(
    (re.compile(pattern), found)
    for pattern, found in (
        (
            "(?i)authentication required|NOAUTH",
            Failure("asks for a password", "the URL gives it: redis://:PASSWORD@HOST or redis://USER:PASSWORD@HOST", True),
        ),
        (
            "invalid username-password|WRONGPASS|invalid password",
            Failure("refuses this user or password", "correct them in the URL, with special characters percent-encoded", True),
        ),
        (
            "without any password configured",
            Failure("has no password, and the URL gives one", "remove it from the URL, or set the server's `requirepass`", True),
        ),
        (
            r"no permissions to run the '([^']+)' command|ACL failure in script",
            lambda match, _: Failure(f"its role may not run {match[1] or 'a command of a script'}", RIGHT, True),
        ),
        ("(?i)no permissions to access a (key|channel)|NOPERM", Failure("its role may not use these keys", RIGHT, True)),
        (
            "DB index is out of range|invalid DB index",
            Failure("has no database of this number", "correct the number in the URL: there are `databases`, 16 by default", True),
        ),
        ("SELECT is not allowed in cluster mode", Failure("a cluster has only database 0", "leave the number out", True)),
        (r'Protocol error, got "\\x1[5-7]"|got "[\x15-\x17]"', Failure("expects TLS", "use rediss://", True)),
        (
            "InvalidResponse|Protocol error",
            Failure("something else than Redis or Valkey answers", "correct host and port", True),
        ),
        (
            "WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|UNKNOWN_PROTOCOL|PACKET_LENGTH_TOO_LONG",
            Failure("does not speak TLS", "use redis://, or the server's tls-port", True),
        ),
        (
            "CERTIFICATE_REQUIRED",
            Failure("asks for a certificate", "name yours: ?ssl_certfile=/PATH/cert.pem&ssl_keyfile=/PATH/key.pem", True),
        ),
        (r"certificate verify failed: (.+?)(?: \(_ssl|'\)|$)", _untrusted),
        (
            "KEY_VALUES_MISMATCH",
            Failure("ssl_keyfile is not the key of ssl_certfile", "name the file of the certificate's own key", True),
        ),
        (
            r"NO_CERTIFICATE_OR_CRL_FOUND|\[SSL\] PEM lib|NO_START_LINE|BAD_BASE64|\[PEM",
            Failure("a certificate file of the URL holds no PEM", "check ssl_ca_certs, ssl_certfile and ssl_keyfile", True),
        ),
        (r"unknown command [`'\"]?(\w+)", _unknown_command),
        (
            "MovedError|MOVED|AskError",
            Failure("is a node of a cluster", "use redis+cluster://HOST:PORT,HOST:PORT", True),
        ),
        (
            "cluster support disabled|Cluster mode is not enabled",
            Failure("is no cluster", "use redis://, or enable the server's cluster mode", True),
        ),
        (
            "slots are not covered|CLUSTERDOWN|ClusterDownError|Hash slot not served|SlotNotCovered",
            Failure("some slots of the cluster have no server", "`CLUSTER INFO` shows them: start the missing nodes"),
        ),
        (
            "ReadOnlyError|READONLY",
            Failure("is a replica, which takes no writes", "name the primary, or its Sentinels: redis+sentinel://", True),
        ),
        (
            "OutOfMemoryError|OOM",
            Failure("is full (maxmemory) and takes no writes", "raise its maxmemory, or lower max_counters", True),
        ),
        ("BusyLoadingError|LOADING", Failure("loads its data after a start", "wait until it has")),
        ("MASTERDOWN", Failure("is a replica without its primary", "start the primary")),
        ("MISCONF", Failure("cannot save its data, and takes no writes", "its log has the cause, often a full disk")),
        ("NOREPLICAS", Failure("has fewer replicas than min-replicas-to-write", "start them, or lower it")),
        ("DENIED", Failure("is in protected mode, which admits only its own machine", "set a password or an ACL there", True)),
        ("max number of clients reached", Failure("has reached its maxclients", "raise it, or end unused clients")),
        (
            "MaxConnectionsError|Too many connections",
            Failure("all connections of this process to it are in use", "raise max_connections in the URL"),
        ),
        ("Name or service not known|nodename nor servname|name resolution|No address associated|getaddrinfo", _nameless),
        ("No such file or directory|FileNotFoundError", _not_there),
        ("Permission denied|PermissionError", _not_allowed),
        ("(?i)timeout connecting|timed out connecting", _late),
        ("Connection refused|Connect call failed|ConnectionRefusedError", _refuses),
        (
            "No route to host|Network is unreachable|Host is down",
            Failure("cannot be reached through the network", "check host, network and firewall"),
        ),
        (
            "(?i)connection reset|connection closed|connection lost|broken pipe|EOF occurred|UNEXPECTED_EOF|IncompleteRead",
            _closed,
        ),
        ("(?i)timeout (reading|writing)|timed out|TimeoutError", Failure("does not answer in time", "is it too busy, or stopped?")),
    )
)  # fmt: skip
