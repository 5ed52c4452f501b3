"""Settings of a rewriter: one frozen pydantic model. Unknown keys are refused, and all faults are reported at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from rewriter.client import registry
from rewriter.client.seam import Connection
from rewriter.policy_settings import FieldSettings, PolicyName, PolicySettings, TrialSettings
from rewriter.secret import SecretUrl
from rewriter.settings_file import read_settings
from rewriter.settings_types import (
    HOUR_S,
    MINUTE_S,
    WEEK_S,
    Header,
    Millis,
    Seconds,
    Section,
    Share,
    listed,
    number,
)  # fmt: skip

__all__ = [
    "DEFAULT_ACTION_WEIGHTS", "HOUR_S", "MINUTE_S", "WEEK_S", "BreakerSettings", "BudgetSettings", "ExperimentSettings",
    "FieldSettings", "IngestSettings", "OpenSearchSettings", "PolicySettings", "Settings", "SignalSettings", "StoreSettings",
    "SwitchSettings", "TrialSettings",
]  # fmt: skip

ActionWeight = Annotated[float, BeforeValidator(number), Field(ge=-1_000, le=1_000, allow_inf_nan=False)]
DEFAULT_ACTION_WEIGHTS: dict[str, float] = {
    "view": 1.0,
    "click": 2.0,
    "add_to_cart": 4.0,
    "purchase": 8.0,
    "remove_from_cart": -4.0,
    "dislike": -8.0,
}


def _host(host: SecretUrl) -> SecretUrl:
    """Return `host` if it is a valid URL. Raises ValueError, which never quotes the host, since that may contain a password."""
    text = host.get_secret_value()
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        _ = parts.port
    except ValueError:
        parts = None
    if parts is None or not parts.hostname or parts.scheme not in ("", "http", "https") or re.search(r"\s", text):
        raise ValueError(
            "is not http://HOST:PORT or https://HOST:PORT (in a password, write / as %2F, ? as %3F, # as %23, @ as %40)"
        )
    return host


Host = Annotated[SecretUrl, AfterValidator(_host)]


def _named_file(path: Any) -> Any:
    if path == "" or "\0" in str(path):
        raise ValueError("names no file: write its path, or leave the key out")
    return path


NamedPath = Annotated[Path, BeforeValidator(_named_file)]


def _client_library(name: str) -> str:
    if name not in registry.names():
        raise ValueError(f"is not a client library; there are {' and '.join(registry.names())}")
    return name


class OpenSearchSettings(Section):
    """The connection to the search engine, for a rewriter that builds its own clients.

    client:       the client library: `opensearch`, or `elasticsearch` for Elasticsearch.
    vary_headers: request headers on which an answer may depend. Searches share an exploration pool, and pages continue one list,
                  only if these headers are equal. All other headers, such as trace ids, are sent and otherwise ignored.
    """

    client: Annotated[str, AfterValidator(_client_library)] = registry.DEFAULT
    hosts: Annotated[tuple[Host, ...], BeforeValidator(listed), Field(min_length=1)] = (
        SecretUrl("http://127.0.0.1:9200"),
    )
    username: str | None = None
    password: SecretStr | None = None
    ca_certs: NamedPath | None = None
    verify_certs: bool = True
    timeout_s: Seconds = 10.0
    vary_headers: Annotated[tuple[Header, ...], BeforeValidator(listed)] = (
        "authorization", "cookie", "securitytenant", "opendistro_security_impersonate_as",
        "x-proxy-user", "x-proxy-roles", "x-forwarded-for", "accept", "content-type",
    )  # fmt: skip

    def connection(self, connections: int) -> Connection:
        """Return the arguments of a client with this many connections per host. They contain the password; never show them."""
        return Connection(
            tuple(host.get_secret_value() for host in self.hosts), connections, self.timeout_s, self.username,
            self.password.get_secret_value() if self.password else "", str(self.ca_certs) if self.ca_certs else None,
            self.verify_certs,
        )  # fmt: skip


class StoreSettings(Section):
    """The store of signals and page plans. Without a `url` there is no store; segments and plans in process memory still serve.

    profile_url:       a second store for profiles, segments and population, which then survive the loss of the session store.
    plan_ttl_s:        seconds for which a list can be continued: its later pages use the boosts of the first one.
    plans_per_subject: number of lists that a session (else a user) can continue; a newer list may replace an older one.
    plans_max_bytes:   bytes of the store's memory for the plans of one process; plans beyond it stay in process memory only.
    max_answer_bytes:  byte limit of the store's answer to one search. A longer answer is cut off on receipt, and that search has no
                       signals.
    """

    url: SecretUrl | None = None
    profile_url: SecretUrl | None = None
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")] = "rw"
    key_salt: SecretStr = SecretStr("")
    plan_ttl_s: Annotated[int, Field(ge=1, le=86_400)] = 1_800
    plans_per_subject: Annotated[int, Field(ge=1, le=1_024)] = 16
    plans_max_bytes: Annotated[int, Field(ge=0, le=2**40)] = 64 * 2**20
    max_answer_bytes: Annotated[int, Field(ge=2**19, le=2**30)] = 2**20

    @property
    def plain_urls(self) -> tuple[str | None, str | None]:
        """`url` and `profile_url` with their credentials, for opening the stores; never shown."""
        return tuple(url.get_secret_value() if url else None for url in (self.url, self.profile_url))  # type: ignore[return-value]


class SignalSettings(Section):
    """Decay, number and blend of signals, and the fallback when they are late.

    After n events of a session its share of the blend is blend_max · n / (n + blend_half_events).
    `max_counters` counters are read per subject and scope, the heaviest first; twice as many are kept.

    An event adds its action's weight to a counter; a negative weight lowers the counter, never below zero. An event older than
    `horizon_s`, or more than `max_skew_s` in the future, is refused. One older than `session_ttl_s` does not count in its session.
    """

    on_late: Literal["skip", "stale"] = "skip"
    on_lag: Literal["profile", "disable"] = "profile"
    max_lag_s: Seconds = 30.0
    session_half_life_s: Seconds = 30 * MINUTE_S
    profile_half_life_s: Seconds = 16 * WEEK_S
    max_counters: Annotated[int, Field(ge=1, le=1024)] = 128
    blend_max: Share = 0.5
    blend_half_events: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 5.0
    stale_max_subjects: Annotated[int, Field(ge=0, le=10_000_000)] = 10_000
    stale_max_bytes: Annotated[int, Field(ge=0, le=2**36)] = 64 * 2**20
    stale_max_age_s: Seconds = 5 * MINUTE_S
    action_weights: dict[Annotated[str, Field(min_length=1, max_length=64)], ActionWeight] = DEFAULT_ACTION_WEIGHTS
    max_skew_s: Seconds = MINUTE_S
    horizon_s: Seconds = 52 * WEEK_S
    session_ttl_s: Seconds = 24 * HOUR_S
    profile_ttl_s: Seconds = 52 * WEEK_S

    @property
    def kept_counters(self) -> int:
        """How many counters of a subject and scope are kept: twice those that are read, so that a rank can change."""
        return 2 * self.max_counters


class IngestSettings(Section):
    """The event streams, and the worker that counts their entries.

    partitions:     initial number of streams; a number already saved in the store overrides it.
    batch:          entries that a worker reads at once, over all of its partitions.
    batch_bytes:    bytes of entries that a worker reads at once; from one partition at most 1 MiB.
    lease_s:        seconds after which another worker takes over a silent worker's partitions.
    retention_s:    seconds for which counted entries stay in the streams. Streams hold identifiers in plain text.
    dedupe_s:       seconds within which two entries with the same `event_id` count once; each id takes about 120 bytes as long.
    retry_s:        seconds after which an object that the index lacked is looked up again, once.
    objects_index:  indices, aliases, data streams or patterns in which objects are looked up, in this order; by default those
                    that policies name.
    max_objects:    looked-up objects that a worker keeps in memory, each for `object_age_s`.
    objects_bytes:  bytes of a worker's memory for looked-up objects.
    dead_letters:   refused entries kept per partition.
    dead_letter_bytes: bytes of the store for the dead letters of all partitions.
    segments:       names of segments that events may always count in.
    max_segments:   limit of the store's list of segments; other names in events are admitted until it is full.
    track_buffer:   events that `track` buffers while the store is unavailable; events beyond it are dropped and counted.
    track_buffer_bytes: bytes of that buffer. Of both limits, a partition may use whatever is still free.
    """

    partitions: Annotated[int, Field(ge=1, le=1024)] = 16
    batch: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    batch_bytes: Annotated[int, Field(ge=2**20, le=2**36)] = 16 * 2**20
    lease_s: Annotated[float, Field(ge=0.2, le=600, allow_inf_nan=False)] = 6.0
    retention_s: Seconds = 24 * HOUR_S
    dedupe_s: Seconds = 15 * MINUTE_S
    retry_s: Seconds = 30.0
    objects_index: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()
    max_objects: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    objects_bytes: Annotated[int, Field(ge=0, le=2**36)] = 64 * 2**20
    object_age_s: Seconds = 10 * MINUTE_S
    dead_letters: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    dead_letter_bytes: Annotated[int, Field(ge=2**20, le=2**36)] = 64 * 2**20
    segments: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")], ...], BeforeValidator(listed)
    ] = ()
    max_segments: Annotated[int, Field(ge=0, le=1_000)] = 100
    track_buffer: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    track_buffer_bytes: Annotated[int, Field(ge=2**17, le=2**36)] = 16 * 2**20


class BudgetSettings(Section):
    """Limits of time, concurrency and size for the optional legs of a search.

    signals_ms:     milliseconds that a search waits for signals.
    cutoff_ms:      milliseconds that it waits for the optional legs after the baseline's arrival.
    max_in_flight:  optional legs in flight per process, abandoned ones included.
    max_rewritten:  rewritten searches (`mode = "rewrite"`) in flight per process; beyond it, the baseline is sent.
    max_body_bytes: size of the caller's body as JSON, roughly; for a larger body only the baseline is sent.
    max_leg_bytes:  size of a leg's answer. A larger answer takes too long to read and is not parsed; while a policy's answers are
                    usually larger, its legs are not sent.
    pool_bytes:     bytes of memory for the exploration pools of one process.
    """

    signals_ms: Millis = 10.0
    cutoff_ms: Millis = 30.0
    max_in_flight: Annotated[int, Field(ge=1, le=1024)] = 16
    max_rewritten: Annotated[int, Field(ge=1, le=1024)] = 64
    max_body_bytes: Annotated[int, Field(ge=1, le=2**30)] = 64 * 2**10
    max_leg_bytes: Annotated[int, Field(ge=1, le=2**30)] = 512 * 2**10
    pool_bytes: Annotated[int, Field(ge=0, le=2**36)] = 32 * 2**20


class BreakerSettings(Section):
    """Thresholds of the circuit breakers of the optional legs and of each store. A rate of exactly 5.00 % keeps a breaker closed.

    Rates are taken over the last `window_s` or the last `window_calls`, whichever holds more calls; no call is older than
    `max_age_s`. A pure 60 s window never fires below 3.3 searches a second; a small window trips a 5 % rule at a true error rate
    of 3 % (276 times in 6 h).
    """

    max_error_rate: Share = 0.05
    max_slow_rate: Share = 0.5
    window_s: Seconds = 60.0
    window_calls: Annotated[int, Field(ge=20, le=10_000)] = 200
    max_age_s: Seconds = 15 * MINUTE_S
    burst_s: Seconds = 5.0
    burst_calls: Annotated[int, Field(ge=1, le=10_000)] = 20
    burst_error_rate: Share = 0.5
    failures_in_a_row: Annotated[int, Field(ge=1, le=10_000)] = 10
    late_reads_in_a_row: Annotated[int, Field(ge=1, le=10_000)] = 10
    open_s: Seconds = 5.0
    max_open_s: Seconds = 60.0
    half_open_permits: Annotated[int, Field(ge=1, le=1_000)] = 10
    permit_lease_s: Seconds = 5.0

    @model_validator(mode="after")
    def _nothing_contradicts(self) -> Self:
        wrong = [
            f"{lower} {low:g} must not exceed {upper} {high:g}"
            for lower, low, upper, high in (
                ("open_s", self.open_s, "max_open_s", self.max_open_s),
                ("window_s", self.window_s, "max_age_s", self.max_age_s),
                ("burst_s", self.burst_s, "max_age_s", self.max_age_s),
            )
            if low > high
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


class SwitchSettings(Section):
    """The kill-switch file (read four times a second), and the values of the switches that no source overrides.

    openfeature: the domain of an OpenFeature provider whose flags are switches (extra `openfeature`).
    """

    file: NamedPath | None = None
    openfeature: str | None = None
    personalization: bool = True
    exploration: bool = True
    shadow: bool = False
    trial: bool = True


class ExperimentSettings(Section):
    """The experiment's arms. 0 means no unit, 1 means every unit.

    holdout:     share of the units that are never personalized.
    rollout:     share of the units that take part.
    interleaved: share of the units that see lists of both rankings instead, and count in neither arm.
    salt:        a new salt assigns the arms anew.
    """

    holdout: Share = 0.05
    rollout: Share = 1.0
    interleaved: Share = 0.0
    salt: str = "rewriter"


class Settings(Section):
    """All settings. `Settings()` works untuned: one policy for every index, boosting items bought or viewed before."""

    opensearch: OpenSearchSettings = OpenSearchSettings()
    store: StoreSettings = StoreSettings()
    signals: SignalSettings = SignalSettings()
    ingest: IngestSettings = IngestSettings()
    budget: BudgetSettings = BudgetSettings()
    breaker: BreakerSettings = BreakerSettings()
    switches: SwitchSettings = SwitchSettings()
    experiment: ExperimentSettings = ExperimentSettings()
    templates_dir: NamedPath | None = None
    policies: dict[PolicyName, PolicySettings] = {"default": PolicySettings(index=("*",))}  # noqa: RUF012  pydantic copies it

    @field_validator("policies")
    @classmethod
    def _same_counters_everywhere(cls, policies: dict[str, PolicySettings]) -> dict[str, PolicySettings]:
        """Require one meaning per field name, and one class of an item: all policies share the counters."""
        meaning: dict[str, tuple[str, tuple[str, ...], float | None]] = {}
        wrong: list[str] = []
        for policy_name, policy in policies.items():
            counted = {name: (field.of, field.half_life_s) for name, field in policy.fields.items()}
            if policy.item_field:
                counted["item"] = ((), policy.item_half_life_s)
            for name, (of, half_life_s) in counted.items():
                first, *same = meaning.setdefault(name, (policy_name, of, half_life_s))
                if tuple(same) != (of, half_life_s):
                    wrong.append(
                        f"field {name!r} has another `of` or `half_life_s` in policy {first!r} than in {policy_name!r}"
                    )
        named = {policy.class_field: name for name, policy in policies.items() if policy.class_field}
        if len(named) > 1:
            both = ", ".join(f"{name!r} has {field!r}" for field, name in named.items())
            wrong.append(f"class_field must be the same in every policy that has one: {both}")
        if wrong:
            raise ValueError("; ".join(wrong))
        return policies

    @property
    def class_field(self) -> str | None:
        """The document's field that names an item's class, or None."""
        return next((policy.class_field for policy in self.policies.values() if policy.class_field), None)

    @property
    def leg_connections(self) -> int:
        """Connections of the rewriter's own client: for optional legs, and for rewritten searches where there are any."""
        rewrites = any(policy.mode == "rewrite" for policy in self.policies.values())
        return self.budget.max_in_flight + (self.budget.max_rewritten if rewrites else 0)

    @property
    def store_reads(self) -> int:
        """Reads of each store in flight: one for each part, and `max_in_flight` more, for reads that outlive their searches."""
        return self.budget.max_in_flight + self.leg_connections

    def policy_for(self, indices: tuple[str, ...]) -> str | None:
        """Return the name of the first policy that matches every index that a search names, or None."""
        return next((name for name, policy in self.policies.items() if policy.matches(indices)), None)

    @classmethod
    def from_toml(cls, path: str | Path) -> Settings:
        """Read `rewriter.toml`, overridden by environment variables. Paths in the file are relative to its folder.

        `REWRITER_STORE__URL` overrides `url` of `[store]`; lists and tables are written as JSON.
        Raises ConfigurationError with every fault, each with file and line or the variable's name. No fault shows a secret.
        """
        return read_settings(cls, Path(path))

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the settings from variables like `REWRITER_STORE__URL` only. Raises ConfigurationError with every fault."""
        return read_settings(cls, None)
