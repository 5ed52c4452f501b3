"""redis-py clients for searches: construction from a URL, and validation of a caller's client.

No client retries: with redis-py's defaults a hung server under a 10 ms time-out holds a read for 4.2–4.5 s. No client sends pings
before reads, waits for a free connection, or decodes replies: one reply that is not UTF-8 would fail the whole read. The socket
time-outs only limit how long a lost read holds its permit. The deadline is a wait by the shell, since an answer that arrives byte
by byte outlasts any socket time-out. RESP2 is used because it connects in one round trip less; replies of both protocols can be
parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import redis.asyncio as aio
from redis import BlockingConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.connection import parse_url
from redis.retry import Retry

from rewriter.errors import ConfigurationError, Fault
from rewriter.signals.answer_bound import bound_answers
from rewriter.signals.dns import look_up_apart

TIMEOUT_S = 1.0
FORMS = (
    "redis://HOST:PORT/DB, rediss://…, unix:///PATH, redis+cluster://HOST:PORT,HOST:PORT, "
    "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB or memory://; percent-encode special characters of a password"
)
URL = re.compile(
    r"(?P<plain>rediss?)(\+(?P<kind>cluster|sentinel))?://(?P<user>[^@/?]*@)?(?P<hosts>[^@/?]+)(?P<path>/[^?]*)?"
    r"(\?(?P<query>.*))?"
)
OPTIONS = re.compile(
    r"client_name|db|max_connections|password|protocol|socket_(connect_)?timeout|socket_keepalive|username"
    r"|ssl_(ca_certs|ca_data|ca_path|cert_reqs|certfile|check_hostname|keyfile|min_version|password)"
)
ALLOWED = (
    "it may set client_name, max_connections, protocol, socket_timeout, socket_connect_timeout, socket_keepalive, username,"
    " password, db and ssl_ options"
)
OPTION_NAME = re.compile(r"[a-z_]{1,30}")
CERT_REQUIREMENTS = ("none", "optional", "required")
RANGES = {
    "db": (0, 2**31),
    "max_connections": (1, 10_000),
    "protocol": (2, 3),
    "socket_connect_timeout": (0.001, 60.0),
    "socket_timeout": (0.001, 60.0),
}
DEFAULT_PORT = {None: 6379, "cluster": 6379, "sentinel": 26379}


class Api(NamedTuple):
    """The redis-py classes for threads, or those for the event loop."""

    redis: Any
    cluster: Any
    node: Any
    sentinel: Any
    retry: Any


THREADS = Api(Redis, RedisCluster, ClusterNode, Sentinel, Retry)
EVENT_LOOP = Api(aio.Redis, aio.RedisCluster, AsyncClusterNode, aio.Sentinel, AsyncRetry)


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A parsed store URL: one server, a cluster, or a service behind Sentinels.

    url:     a URL that redis-py can parse, with only the first node.
    kind:    "cluster", "sentinel", or None for one server.
    nodes:   host and port of each node or Sentinel.
    service: the name of the Sentinels' service.
    """

    url: str = field(repr=False)  # it may hold a password
    kind: str | None = None
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""


def store_address(url: str) -> StoreAddress:
    """Parse a store's URL, without connecting.

    Raises ConfigurationError for an invalid URL, or for options that can never work. It quotes only names of options.
    """
    # Options begin after the last `@`: a `?` before it belongs to a password.
    options = parse_qsl(url.rpartition("@")[2].partition("?")[2], keep_blank_values=True)
    unknown = [name for name, _ in options if not OPTIONS.fullmatch(name)]
    if unknown:
        shown = [name if OPTION_NAME.fullmatch(name) else "an option whose name is none" for name in unknown]
        raise _refused(f"a store's URL may not set {', '.join(shown)}", ALLOWED)
    try:
        found = StoreAddress(url) if re.match("unix://.*/.", url) else _address(url)
        arguments = _arguments(found.url)
        wrong = [name for name, (low, high) in RANGES.items() if not low <= float(arguments.get(name, low)) <= high]
    except ValueError:
        raise _refused("its URL cannot be read", FORMS) from None
    if wrong:
        ranges = "; ".join(f"{name} is {RANGES[name][0]:g} to {RANGES[name][1]:g}" for name in wrong)
        raise _refused(f"its URL sets {', '.join(wrong)} out of range", ranges)
    if faults := list(_never(dict(options), encrypted=url.startswith("rediss"))):
        raise ConfigurationError(faults)
    return found


def _never(options: Mapping[str, str], *, encrypted: bool) -> Iterator[Fault]:
    """Yield a fault for each option that can never work; redis-py itself would fail only at the first read, and at every one."""
    tls = sorted(name for name in options if name.startswith("ssl_"))
    if tls and not encrypted:
        yield Fault("store", f"its URL sets {', '.join(tls)} without TLS", "use rediss://")
    requirement = options.get("ssl_cert_reqs", "required")
    if requirement not in CERT_REQUIREMENTS:
        yield Fault("store", "its URL sets an unknown ssl_cert_reqs", f"use {', '.join(CERT_REQUIREMENTS)}")
    if "client_name" in options and not re.fullmatch(r"[!-~]+", options["client_name"]):
        yield Fault(
            "store", "its URL's client_name has a blank or a non-ASCII character", "use letters, digits, - and _"
        )


def opened(found: StoreAddress, connections: int, api: Api, max_answer_bytes: int | None = None) -> Any:
    """Return a client for an address, which resolves names as `dns` does.

    max_answer_bytes: limit of one answer, see `answer_bound`; None for no limit.
    A cluster client for threads connects at once to read its slots; raises the client's exception if it cannot.
    """
    client = _client(found, connections, api)
    for one in (client, *sentinels(client)):
        look_up_apart(one)
        if max_answer_bytes is not None:
            bound_answers(one, max_answer_bytes)
    return client


def _client(found: StoreAddress, connections: int, api: Api) -> Any:
    own = {
        "socket_connect_timeout": TIMEOUT_S,
        "socket_timeout": TIMEOUT_S,
        "max_connections": connections,
        "health_check_interval": 0,
        "retry": api.retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if found.kind is None:
        return api.redis.from_url(found.url, **own)
    if found.kind == "cluster":
        return api.cluster.from_url(found.url, startup_nodes=[api.node(*node) for node in found.nodes[1:]], **own)
    arguments = _arguments(found.url)
    tls = {"ssl": True} if arguments.pop("connection_class", None) else {}
    tls |= {name: value for name, value in arguments.items() if name.startswith("ssl_")}
    reach = {name: value for name, value in arguments.items() if name not in {"host", "port"}}
    watchers = api.sentinel(list(found.nodes), sentinel_kwargs=own | tls, **(own | tls | reach))
    return watchers.master_for(found.service)


def sentinels(client: Any) -> list[Any]:
    """Return the clients of a client's Sentinels, which its `close` leaves open."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return list(manager.sentinels) if manager else []


def refuse_unfit(client: Any) -> None:
    """Raise ConfigurationError with every reason why a caller's client is unfit for searches."""
    if faults := [fault for one in (client, *sentinels(client)) for fault in _faults(one)]:
        raise ConfigurationError(list(dict.fromkeys(faults)))


def _faults(client: Any) -> list[Fault]:
    is_cluster = isinstance(client, (RedisCluster, aio.RedisCluster))
    arguments = client.nodes_manager.connection_kwargs if is_cluster else client.connection_pool.connection_kwargs
    retry = client.retry if is_cluster else arguments.get("retry")
    retries = retry.get_retries() if retry else arguments.get("retry_on_error") or arguments.get("retry_on_timeout")
    pools = (BlockingConnectionPool, aio.BlockingConnectionPool)
    waits = isinstance(getattr(client, "connection_pool", None), pools)
    timeless = arguments.get("socket_timeout", TIMEOUT_S) is None
    table = (
        (retries, "retries, so that a hung server holds each read for seconds", "set retry=Retry(NoBackoff(), 0)"),
        (
            arguments.get("decode_responses"),
            "decodes replies, so that one reply not in UTF-8 fails a read",
            "leave decode_responses off",
        ),
        (arguments.get("health_check_interval"), "pings before it reads", "set health_check_interval=0"),
        (timeless, "waits for an answer without a time-out", f"set socket_timeout={TIMEOUT_S:g}"),
        (waits, "waits for a free connection", "use a ConnectionPool, which fails at once"),
    )
    return [Fault("store", f"the client {what}", remedy) for wrong, what, remedy in table if wrong]


def _address(url: str) -> StoreAddress:
    match = URL.fullmatch(url)
    if not match:
        raise ValueError
    plain, kind, query = match["plain"], match["kind"], f"?{match['query']}" if match["query"] else ""
    parts = (match["path"] or "").strip("/").split("/")
    service = parts.pop(0) if kind == "sentinel" else ""
    db = "/".join(parts)
    nodes = [urlsplit(f"//{host}") for host in match["hosts"].split(",")]
    wrong = (
        (kind == "sentinel" and not service)
        or (kind is None and len(nodes) > 1)
        or not all(node.hostname for node in nodes)
        or not re.fullmatch("0?" if kind == "cluster" else r"\d*", db)
    )
    if wrong:
        raise ValueError
    hosts = [(node.hostname or "", node.port or DEFAULT_PORT[kind]) for node in nodes]
    first = f"{plain}://{match['user'] or ''}{nodes[0].netloc}{f'/{db}' if db else ''}{query}"
    return StoreAddress(first, kind, tuple(hosts), service)


def _arguments(url: str) -> dict[str, Any]:
    return dict(parse_url(url))  # type: ignore[no-untyped-call]


def _refused(what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError([Fault("store", what, remedy)])
