"""The seam to the search client: all that the rest of the library needs of a client library, as one protocol. Pure.

Each client library has one file beside this one, and only that file imports the library. `registry` finds the file that serves a
client, so that adding a client library adds a file and changes none.

    caller ── arguments ──▶ read ──▶ SearchArguments ──▶ the flow
    caller ◀── response ── with_body ◀── a body, as JSON has it ◀── the flow
    legs   ◀── search · multi_search · get_mapping · get_settings · field_caps · resolve_index · validate_query · info
    errors ──▶ fault_of ──▶ ClientFault
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal, Protocol

from rewriter.client.faults import of_the_search, server_cause
from rewriter.record import record


@record(frozen=True, slots=True)
class SearchArguments:
    """The arguments of one search, the same whatever client they were given to. Nothing in it is checked or copied.

    index:   as given: a name, names in a list or separated by commas, None for all indices.
    body:    the search as JSON, including keyword arguments that stand for a key of it; or the caller's object, if it is no dict.
    params:  parameters of the URL, without those that control how one request is sent.
    headers: headers of this search, in addition to the client's own.
    unread:  why the arguments cannot be read, "" if they can.
    own:     the parameters that control how one request is sent, by the client's names. `request_timeout` is in seconds.
    """

    index: Any = None
    body: Any = None
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    unread: str = ""
    own: Mapping[str, Any] = field(default_factory=dict)


@record(frozen=True, slots=True)
class Search:
    """One search that the rewriter itself sends. headers: in addition to the client's own. index: "" for all indices."""

    index: str
    body: Mapping[str, Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)


@record(frozen=True, slots=True)
class Connection:
    """The settings of a new client.

    hosts: URLs with their credentials. connections: to each host. timeout_s: of a request.
    """

    hosts: tuple[str, ...]
    connections: int
    timeout_s: float
    username: str | None = None
    password: str = ""
    ca_certs: str | None = None
    verify_certs: bool = True


FaultKind = Literal["status", "timeout", "unreachable", "unreadable"]


@record(frozen=True, slots=True)
class ClientFault:
    """The meaning of an error that a client raised.

    kind:   "status" if the server answered with an error, "timeout" if the client gave up, "unreachable" without a connection,
            "unreadable" for an answer that is no JSON and for any other error.
    name:   the name of the error's class.
    status: the HTTP status.
    error:  the server's type of error.
    body:   the server's error as JSON, or None.
    """

    kind: FaultKind
    name: str
    status: int | None = None
    error: str = ""
    body: Any = None

    @property
    def refused(self) -> bool:
        """Whether the server refused the call for its credentials or permissions."""
        return self.status in (401, 403)


class RequestFailed(Exception):
    """A request of the rewriter itself failed. It holds the meaning of its client's error, and the rights that it needs."""

    def __init__(self, fault: ClientFault, needs: str = "") -> None:
        super().__init__(fault.name)
        self.fault = fault
        self.needs = needs


class LegFault(Exception):
    """The failure of an optional leg: the server rejected its body, it failed, it was late, or its answer is too large.

    `cause` is the server's own text. It quotes values, so only `journal.redacted(cause)` may be logged.
    `status` is the server's HTTP status, None if it gave none.
    """

    def __init__(
        self,
        kind: Literal["rejected", "failed", "late", "too_large"],
        detail: str,
        cause: str = "",
        status: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.cause = cause
        self.status = status


class SearchClient(Protocol):
    """One client of a library, the caller's or the rewriter's own.

    `search` and the methods after it send a request and, except `search_as_caller`, return the answer as parsed JSON; those of an
    asynchronous client return an awaitable of it. Each raises one of `errors`, or LegFault if the limits of a leg
    (`limits.LIMITS`) are exceeded.

    raw:       the library's own object.
    errors:    the base classes of the library's errors.
    rewrapped: the names of methods that return the same client with other options for its next calls.
    passed:    the names of calls that search and cannot be personalized.
    rights:    what the server's security calls the right to `info`, `mapping`, `settings`, `validate`, `search` and `fields`.
    """

    raw: Any
    is_async: bool
    errors: tuple[type[Exception], ...]
    rewrapped: frozenset[str]
    passed: frozenset[str]
    rights: Mapping[str, str]

    def read(self, arguments: Mapping[str, Any]) -> SearchArguments:
        """Read the keyword arguments of one `raw.search`. Never raises, modifies nothing."""
        ...

    def read_batch(self, arguments: Mapping[str, Any]) -> list[SearchArguments] | str:
        """Read the keyword arguments of one `raw.msearch`, or return why they cannot be read. Never raises, modifies nothing."""
        ...

    def body_of(self, response: Any) -> Any:
        """Return the body of a response of `raw`, as parsed JSON."""
        ...

    def with_body(self, response: Any, body: Any) -> Any:
        """Return a response of the same type as `response` with another body."""
        ...

    def write(self, body: Any) -> str | bytes:
        """Return a body as JSON text, as `raw` serializes it. Raises the errors of the client's serializer."""
        ...

    def derived(self, raw: Any) -> SearchClient:
        """Return the client around `raw`, which one of this client's `rewrapped` methods has returned."""
        ...

    def cloned(self, connections: int) -> SearchClient:
        """Return a client that sends and reads as this one does, with connections of its own and no retries.

        Hosts, credentials, certificates, headers, compression, serializers, connection and transport classes are the same.
        It connects to nothing yet. An asynchronous clone belongs to the event loop that first uses it.
        """
        ...

    def prepare(self) -> None:
        """Read a clone's certificates from disk. Called on a thread, since an event loop must not wait for a disk."""
        ...

    def search(self, search: Search, timeout_s: float, *, is_leg: bool = False) -> Any:
        """Send one search. is_leg: an optional leg, which may be abandoned: the server is asked to cancel it then."""
        ...

    def search_as_caller(self, search: Search, timeout_s: float) -> Any:
        """Send one search that stands in for the caller's own; return what `raw.search` would: see `body_of` and `with_body`."""
        ...

    def multi_search(self, searches: Sequence[Search], timeout_s: float, *, is_leg: bool = False) -> Any:
        """Send several searches in one request, with the headers of the first. The answer holds `responses` in their order."""
        ...

    def bulk(self, index: str, lines: Sequence[Mapping[str, Any]], timeout_s: float) -> Any:
        """Send the actions of one bulk request, each with its document where it has one, for an index."""
        ...

    def get_mapping(self, index: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """Return the mappings of an index expression. params: of the URL."""
        ...

    def get_settings(self, index: str, names: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """Return settings of an index expression, flat. names: of the settings, separated by commas; "" for all."""
        ...

    def field_caps(self, index: str, timeout_s: float) -> Any:
        """Return the field capabilities of all fields of an index expression."""
        ...

    def validate_query(self, index: str, query: Mapping[str, Any], timeout_s: float) -> Any:
        """Return whether the server accepts a query on each index, and why not."""
        ...

    def render_template(self, source: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """Return the body that the server makes of a search template in Mustache, in `template_output`."""
        ...

    def resolve_index(self, index: str, timeout_s: float) -> Any:
        """Return the indices, aliases and data streams that an index expression names."""
        ...

    def info(self, timeout_s: float) -> Any:
        """Return the server's answer to `GET /`."""
        ...

    def close(self) -> Any:
        """Close the client and its connections. An asynchronous client returns an awaitable."""
        ...

    def fault_of(self, error: Exception) -> ClientFault:
        """Return the meaning of an error of this client. Its name and its type of error hold nothing of a body."""
        ...


class Library(Protocol):
    """The interface of one client library, which a module of this package implements.

    SYNC, ASYNC: the client classes, as a user imports them.
    CLASSES:     the same as classes.
    SEARCHING:   the methods by which a client of them sends searches.
    CLONES_SEARCH: whether a clone searches by the methods that a subclass overrides.
    LOGGERS:     the names of its loggers.
    """

    SYNC: str
    ASYNC: str
    CLASSES: tuple[type, ...]
    SEARCHING: tuple[str, ...]
    CLONES_SEARCH: bool
    LOGGERS: tuple[str, ...]

    def kind_of(self, client: object) -> Literal["sync", "async"] | None:
        """Return which of the two classes `client` derives from, None if from neither."""
        ...

    def check_clone(self, client: Any, clone: Any) -> None:
        """Raise own_parts.NotCloned if a clone lacks what its client was given."""
        ...

    def around(self, raw: Any, *, is_async: bool) -> SearchClient:
        """Return the client around an object of the library, or around a proxy of one."""
        ...

    def connect(self, connection: Connection, *, is_async: bool) -> SearchClient:
        """Return a new client. It connects to nothing yet."""
        ...


def leg_fault(fault: ClientFault) -> LegFault:
    """Return the fault of an optional leg whose client raised an error with this meaning."""
    if fault.kind == "timeout":
        return LegFault("late", "given up by its client")
    if fault.body is not None and "task_cancelled_exception" in str(fault.body):
        return LegFault("late", "cancelled by the server")
    if fault.kind == "unreadable":
        return LegFault("failed", fault.name)
    kind, reason = server_cause(fault.body)
    rejected = of_the_search(fault.status, kind)
    detail = f"{fault.name}({fault.status if fault.status is not None else 'N/A'}, {fault.error[:80]})"
    return LegFault("rejected" if rejected else "failed", detail, f"{kind}: {reason}" if kind else "", fault.status)


def answer_of(body: Any) -> Mapping[str, Any]:
    """Return the body of a search's answer. Raises LegFault if it holds no list of hits."""
    if (
        isinstance(body, Mapping)
        and isinstance(body.get("hits"), Mapping)
        and isinstance(body["hits"].get("hits"), list)
    ):
        return body
    raise LegFault("failed", "the answer has no hits")
