"""redis-py clients as a search can afford them: our own from a URL, and what is wrong with one that was given.

No client here retries: with redis-py's defaults a hung server under a 10 ms time-out holds a read for 4.2–4.5 s. None
pings in between, waits for a free connection, or decodes: one reply that is not UTF-8 would fail the whole read. The
socket time-outs only bound how long a lost read holds its place; the deadline is a wait by the shell, since a dripping
answer outlives any of them. RESP2, because it connects in one round trip less; replies of both protocols can be read.
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
    "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB or memory://; what is special in a password is percent-encoded"
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
    """The classes of redis-py that threads use, or the ones for the event loop."""

    redis: Any
    cluster: Any
    node: Any
    sentinel: Any
    retry: Any


THREADS = Api(Redis, RedisCluster, ClusterNode, Sentinel, Retry)
EVENT_LOOP = Api(aio.Redis, aio.RedisCluster, AsyncClusterNode, aio.Sentinel, AsyncRetry)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL points: to one server, or by way of some nodes to a cluster, or to the service that Sentinels watch.

    url: as redis-py reads it, with the first node alone.
    """

    url: str = field(repr=False)  # it may hold a password
    kind: str | None = None
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""


def target(url: str) -> Target:
    """Read a store's URL; nothing is connected to.

    Raises ConfigurationError, which shows nothing of the URL but names of options, also for a URL that no server could ever serve.
    """
    # A raw `?` in a password is behind no host: options begin behind the last `@`.
    options = parse_qsl(url.rpartition("@")[2].partition("?")[2], keep_blank_values=True)
    unknown = [name for name, _ in options if not OPTIONS.fullmatch(name)]
    if unknown:
        shown = [name if OPTION_NAME.fullmatch(name) else "an option whose name is none" for name in unknown]
        raise _refused(f"a store's URL may not set {', '.join(shown)}", ALLOWED)
    try:
        found = Target(url) if re.match("unix://.*/.", url) else _target(url)
        said = _arguments(found.url)
        wrong = [name for name, (low, high) in RANGES.items() if not low <= float(said.get(name, low)) <= high]
    except ValueError:
        raise _refused("its URL cannot be read", FORMS) from None
    if wrong:
        ranges = "; ".join(f"{name} is {RANGES[name][0]:g} to {RANGES[name][1]:g}" for name in wrong)
        raise _refused(f"its URL sets {', '.join(wrong)} to what cannot be", ranges)
    if faults := list(_never(dict(options), encrypted=url.startswith("rediss"))):
        raise ConfigurationError(faults)
    return found


def _never(options: Mapping[str, str], *, encrypted: bool) -> Iterator[Fault]:
    """Yield what of a URL's options no server could ever serve: redis-py would find out at the first read, and at each one."""
    tls = sorted(name for name in options if name.startswith("ssl_"))
    if tls and not encrypted:
        yield Fault("store", f"its URL sets {', '.join(tls)} without TLS", "begin it with rediss://")
    requirement = options.get("ssl_cert_reqs", "required")
    if requirement not in CERT_REQUIREMENTS:
        yield Fault("store", "its URL sets ssl_cert_reqs to what cannot be", f"give {', '.join(CERT_REQUIREMENTS)}")
    if "client_name" in options and not re.fullmatch(r"[!-~]+", options["client_name"]):
        yield Fault(
            "store", "its URL's client_name has a blank, or a letter outside ASCII", "use letters, digits, - and _"
        )


def opened(found: Target, connections: int, api: Api, max_answer_bytes: int | None = None) -> Any:
    """Return a client. THREADS' client of a cluster asks for its slots at once, and raises what keeps it from them.

    It looks names up apart, where a slow DNS holds up nobody else. max_answer_bytes: see `answer_bound`.
    """
    client = _client(found, connections, api)
    for one in (client, *sentinels(client)):
        look_up_apart(one)
        if max_answer_bytes is not None:
            bound_answers(one, max_answer_bytes)
    return client


def _client(found: Target, connections: int, api: Api) -> Any:
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
    said = _arguments(found.url)
    tls = {"ssl": True} if said.pop("connection_class", None) else {}
    tls |= {name: value for name, value in said.items() if name.startswith("ssl_")}
    reach = {name: value for name, value in said.items() if name not in {"host", "port"}}
    watchers = api.sentinel(list(found.nodes), sentinel_kwargs=own | tls, **(own | tls | reach))
    return watchers.master_for(found.service)


def sentinels(client: Any) -> list[Any]:
    """Return the clients of the Sentinels that a client asks, which closing it leaves open."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return list(manager.sentinels) if manager else []


def refuse_unfit(client: Any) -> None:
    """Raise ConfigurationError with everything for which a client that was given cannot serve searches."""
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
        (retries, "retries, so that a hung server holds each read for seconds", "give it retry=Retry(NoBackoff(), 0)"),
        (
            arguments.get("decode_responses"),
            "decodes: one reply not in UTF-8 fails a read",
            "leave decode_responses off",
        ),
        (arguments.get("health_check_interval"), "pings before it reads", "give it health_check_interval=0"),
        (timeless, "waits for an answer without end", f"give it socket_timeout={TIMEOUT_S:g}"),
        (waits, "waits for a free connection", "give it a ConnectionPool, which fails at once"),
    )
    return [Fault("store", f"the client {what}", remedy) for wrong, what, remedy in table if wrong]


def _target(url: str) -> Target:
    said = URL.fullmatch(url)
    if not said:
        raise ValueError
    plain, kind, query = said["plain"], said["kind"], f"?{said['query']}" if said["query"] else ""
    parts = (said["path"] or "").strip("/").split("/")
    service = parts.pop(0) if kind == "sentinel" else ""
    db = "/".join(parts)
    nodes = [urlsplit(f"//{host}") for host in said["hosts"].split(",")]
    wrong = (
        (kind == "sentinel" and not service)
        or (kind is None and len(nodes) > 1)
        or not all(node.hostname for node in nodes)
        or not re.fullmatch("0?" if kind == "cluster" else r"\d*", db)
    )
    if wrong:
        raise ValueError
    hosts = [(node.hostname or "", node.port or DEFAULT_PORT[kind]) for node in nodes]
    first = f"{plain}://{said['user'] or ''}{nodes[0].netloc}{f'/{db}' if db else ''}{query}"
    return Target(first, kind, tuple(hosts), service)


def _arguments(url: str) -> dict[str, Any]:
    return dict(parse_url(url))  # type: ignore[no-untyped-call]


def _refused(what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError([Fault("store", what, remedy)])
