"""The searches of a preview: the real page of a subject, without the guards of a service, and the page of a sample."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewriter.boost.body import own_names, without_own_names
from rewriter.boost.templates import TemplateSet
from rewriter.cli.preview.page import Fields, PreviewPage, page_of, titled
from rewriter.cli.preview.read_only import ReadOnlyStore
from rewriter.cli.render import sample_part, whole_body
from rewriter.client.seam import SearchClient
from rewriter.decide.quarantine import NoQuarantine
from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate.variants import NEVER_OPEN
from rewriter.flow.report_details import factor_by_weights
from rewriter.parsed_search import parse_search
from rewriter.report import BoostUsed, Move, Reason, Report
from rewriter.settings import Settings
from rewriter.shell.sync import Rewriter
from rewriter.shell.template_files import load_templates
from rewriter.signals.store import Store
from rewriter.subject import Subject

READY_S = 15.0
AT_LEISURE = {"signals_ms": 5_000.0, "cutoff_ms": 15_000.0, "max_leg_bytes": 2**28, "max_body_bytes": 2**24}
"""Time budget of a preview: no visitor waits for its page, so every part may arrive in time."""
SWITCHED_ON = {
    "REWRITER_SWITCH_PERSONALIZATION": "on",
    "REWRITER_SWITCH_SHADOW": "off",
    "REWRITER_SWITCH_ROLLOUT": "1",
    "REWRITER_SWITCH_HOLDOUT": "0",
}
"""Switches of a preview: it shows templates that do not serve yet, whatever the values of the service's switches."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The subject of one page: a subject of the store, a segment's newcomer, or a sample file."""

    label: str
    subject: Subject | None = None
    sample: Path | None = None


class UnguardedRewriter(Rewriter[Any]):
    """A rewriter without quarantine, whose breaker never opens: what fails for one subject does not change another's page."""

    def __init__(self, client: Any, store: Store, settings: Settings, *, profile_store: Store | None) -> None:
        super().__init__(client, store, settings, profile_store=profile_store)
        if (runtime := self._runtimes.current) is not None:
            runtime.core.quarantine = NoQuarantine(runtime.core.journal)


def newcomer(segment: str) -> Wanted:
    """Return a subject in a segment that the store does not know."""
    return Wanted(f"newcomer, segment {segment}", Subject(f"preview-{uuid.uuid4()}", segments=(segment,)))


def at_leisure(settings: Settings) -> Settings:
    """Return the settings of a preview: no experiment, no kill-switch file, budgets of seconds, no draft on trial."""
    # The preview shows both rankings, and why each hit moved.
    shown = {"mode": "parallel", "named_share": 1.0, "trial": None}
    return settings.model_copy(
        update={
            "policies": {name: policy.model_copy(update=shown) for name, policy in settings.policies.items()},
            "experiment": settings.experiment.model_copy(update={"holdout": 0.0, "rollout": 1.0, "interleaved": 0.0}),
            "budget": settings.budget.model_copy(update=AT_LEISURE),
            "breaker": settings.breaker.model_copy(update=NEVER_OPEN),
            "switches": settings.switches.model_copy(update={"file": None, "personalization": True, "shadow": False}),
        }
    )


def previewed(
    client: SearchClient,
    store: Store | None,
    profiles: Store | None,
    settings: Settings,
    policy: str,
    arguments: Mapping[str, Any],
    wanted: Sequence[Wanted],
    fields: Fields,
    now_s: float,
) -> Iterator[PreviewPage]:
    """Yield the page of each requested subject. Raises the client's error if the plain search fails."""
    settings = at_leisure(settings.model_copy(update={"policies": {policy: settings.policies[policy]}}))
    plain = _plain(client, arguments)
    chosen = settings.policies[policy]
    fields = titled(
        plain["hits"]["hits"],
        Fields(fields.title, fields.category or chosen.category_field or "", fields.date or chosen.date_field or "", fields.image),
        arguments.get("body"),
    )  # fmt: skip
    if samples := [(one.label, one.sample) for one in wanted if one.sample is not None]:
        templates = load_templates(settings)[policy]
        for label, sample in samples:
            shown, report = _of_sample(client, settings, policy, templates, arguments, sample)
            yield page_of(label, plain, shown, report, fields, now_s)
    subjects = [one for one in wanted if one.subject is not None]
    if not subjects:
        return
    if store is None:
        raise ConfigurationError([Fault("store.url", "is not set, so that no subject is known", "give --sample FILE")])
    with (
        overridden(SWITCHED_ON),
        UnguardedRewriter(
            client.raw,
            ReadOnlyStore(store),
            settings,
            profile_store=profiles and ReadOnlyStore(profiles),
        ) as rewriter,
    ):
        rewriter.wait_ready(READY_S, index=arguments.get("index"))
        for one in subjects:
            shown, report = rewriter.search_details(subject=one.subject, **arguments)
            yield page_of(one.label, plain, client.body_of(shown), report, fields, now_s)


def _of_sample(
    client: SearchClient,
    settings: Settings,
    policy: str,
    templates: TemplateSet,
    arguments: Mapping[str, Any],
    sample: Path,
) -> tuple[Mapping[str, Any], Report]:
    """Search with a sample's boosts. A sample has no exploration: it describes affinities, and no list."""
    chosen = settings.policies[policy]
    search = parse_search(client.read(arguments), settings, {})
    if search.passed:
        return _plain(client, arguments), Report(search.passed, search.detail, policy=policy)
    part = sample_part(sample, templates, chosen, search)
    if part.reason is not Reason.PERSONALIZED:
        return _plain(client, arguments), Report(part.reason, part.detail, policy=policy)
    part, body = whole_body(part, chosen, search)
    response = _plain(client, {**arguments, "body": body})
    hits = response["hits"]["hits"]
    gated = part.gated and part.strategy != "wrap"
    acted = [tuple(at for at in own_names(hit, gated=gated) if at < len(part.boosts)) for hit in hits]
    moves = tuple(
        Move(str(hit.get("_id")), None, at, factor_by_weights(part, boosts), boosts, "names")
        for at, (hit, boosts) in enumerate(zip(hits, acted, strict=True))
        if boosts
    )
    report = Report(
        part.reason, part.detail, "personalized", policy, template_version=part.version, strategy=part.strategy, source=None,
        boosts=tuple(BoostUsed(one.field, one.value, one.weight, one.source) for one in part.boosts),
        factor_limit_used=part.max_boost, explain=lambda: moves,
    )  # fmt: skip
    return {**response, "hits": {**response["hits"], "hits": [without_own_names(hit) for hit in hits]}}, report


def _plain(client: SearchClient, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    response: Mapping[str, Any] = client.body_of(client.raw.search(**arguments))
    return response


@contextmanager
def overridden(variables: Mapping[str, str]) -> Iterator[None]:
    """Override switches for this process by the environment, and restore the environment afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
