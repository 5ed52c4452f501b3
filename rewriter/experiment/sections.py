"""The sections of the report beside the lifts: guardrails, interleaving, slots, and parts of people and queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rewriter.experiment.estimates import Effect, ratio
from rewriter.experiment.interleaving import ListCredit, Preference, preference
from rewriter.experiment.people import Mask, People, effect_of, measure_of
from rewriter.experiment.records import FAILED, Records
from rewriter.experiment.slot_value import SlotValue, slot_value_of

MAX_ADDED_P99_MS = 30.0
MAX_FAILED = 0.05


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One guardrail: `ok` is None without data to judge."""

    name: str
    ok: bool | None
    what: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of the people or queries, with its primary measure. Not corrected for the number of parts."""

    of: str
    name: str
    people: int
    lift: float | None
    low: float | None
    high: float | None


def guardrails_of(
    records: Records, people: People, planned_people: float, max_added_ms: float = MAX_ADDED_P99_MS
) -> list[Guardrail]:
    """Return the guardrails: added latency, failures, searches that find nothing."""
    found = []
    added = records.rows("SELECT quantile_cont(added_ms, [0.5, 0.99]) FROM searches WHERE added_ms IS NOT NULL")[0][0]
    if added:
        ok = added[1] <= max_added_ms
        found.append(
            Guardrail(
                "added latency",
                ok,
                f"p50 {added[0]:.1f} ms, p99 {added[1]:.1f} ms (limit {max_added_ms:g} ms){_latencies(records)}",
            )
        )
    treated, failed = records.rows(
        f"SELECT count(*), count(*) FILTER (reason IN {FAILED}) FROM searches WHERE arm = 'treatment'"
    )[0]
    if treated:
        share = failed / treated
        found.append(
            Guardrail(
                "failures",
                share <= MAX_FAILED,
                f"{share:.2%} of treated searches fell back for a failure or for lateness (limit {MAX_FAILED:.0%})",
            )
        )
    if people.both:
        empty = Effect(*(ratio(x, y) for x, y in zip(people.arms("empty"), people.arms("searches"), strict=True)))
        interval = empty.interval(planned_people)
        ok = not interval.low > 0.0
        found.append(
            Guardrail(
                "zero results",
                ok,
                f"{empty.treated.value:.2%} of searches find nothing, {empty.control.value:.2%} in the holdout",
            )
        )
    return found


def _latencies(records: Records) -> str:
    """Return p50 and p99 of the arms' whole searches, of those for which the caller's own search was sent."""
    rows = records.rows(
        """
        SELECT arm, quantile_cont(baseline_ms + coalesce(added_ms, 0), [0.5, 0.99]) FROM searches
        WHERE baseline_ms IS NOT NULL AND coalesce(mode, '') <> 'rewrite' GROUP BY arm
        """
    )
    found = dict(rows)
    both = [(name, found[arm]) for arm, name in (("treatment", "treated"), ("holdout", "held out")) if arm in found]
    return (
        "; whole searches " + ", ".join(f"{name} {p50:.1f} and {p99:.1f} ms" for name, (p50, p99) in both)
        if both
        else ""
    )


def interleaving_of(records: Records, planned_people: float) -> tuple[Preference | None, Preference | None]:
    """Return the preference by clicks and by orders; None if no list was interleaved."""
    rows = records.rows(
        """
        WITH lists AS (SELECT query_id, unit, teams, hits, first_position FROM searches WHERE teams IS NOT NULL),
             earned AS (
               SELECT l.query_id, e.action, substr(l.teams, CAST(list_position(l.hits, e.object_id) AS INTEGER), 1) AS team,
                 count(*) AS n
               FROM lists l JOIN outcomes e USING (query_id) WHERE list_contains(l.hits, e.object_id) GROUP BY ALL)
        SELECT l.query_id, any_value(l.unit), bool_or(contains(l.teams, 'P') AND contains(l.teams, 'B')),
          coalesce(sum(e.n) FILTER (e.action = 'click' AND e.team = 'P'), 0), coalesce(sum(e.n) FILTER (e.action = 'click'
            AND e.team = 'B'), 0),
          coalesce(sum(e.n) FILTER (e.action = 'purchase' AND e.team = 'P'), 0), coalesce(sum(e.n) FILTER (e.action =
            'purchase' AND e.team = 'B'), 0)
        FROM lists l LEFT JOIN earned e USING (query_id) GROUP BY l.query_id ORDER BY l.query_id
        """
    )
    if not rows:
        return None, None
    clicks = [ListCredit(unit, int(p), int(b), bool(competing)) for _, unit, competing, p, b, _, _ in rows]
    orders = [ListCredit(unit, int(p), int(b), bool(competing)) for _, unit, competing, _, _, p, b in rows]
    return preference(clicks, planned_people=planned_people), preference(
        orders, per_person=True, planned_people=planned_people
    )


def slots_of(records: Records) -> SlotValue | None:
    """Return the clicks on displayed slots as their value; None without slots."""
    columns = records.columns(
        """
        WITH drawn AS (SELECT query_id, unit, unnest(slots) AS slot FROM searches WHERE slots IS NOT NULL),
             clicked AS (SELECT DISTINCT query_id, object_id FROM outcomes WHERE action = 'click' AND object_id IS NOT NULL),
             people AS (SELECT unit, row_number() OVER (ORDER BY unit) - 1 AS person FROM (SELECT DISTINCT unit FROM searches))
        SELECT p.person, coalesce(d.slot.propensity, 0)::DOUBLE AS propensity, (c.object_id IS NOT NULL)::DOUBLE AS reward
        FROM drawn d JOIN people p USING (unit)
          LEFT JOIN clicked c ON c.query_id = d.query_id AND c.object_id = d.slot.object_id
        ORDER BY p.person, d.query_id, propensity, reward  -- sums of floats depend on their order
        """
    )
    people, propensities, rewards = (np.asarray(columns[name]) for name in ("person", "propensity", "reward"))
    return slot_value_of(people, propensities, rewards) if len(people) else None


def segments_of(records: Records, people: People, primary: str, planned_people: float) -> list[Segment]:
    """Return the parts of the people by facts from *before* the experiment, and the classes of queries."""
    found: list[Segment] = []

    def add(of: str, name: str, effect: Effect) -> None:
        one = measure_of(name, effect, planned_people)
        found.append(Segment(of, name, effect.people, one.lift, one.low, one.high))

    def known(name: str) -> Mask:
        return np.nan_to_num(np.asarray(people.columns[name], dtype=np.float64)) > 0.0

    bought, came = known("purchases_before") | known("clicks_before"), known("searches_before")
    if bought.any() or came.any():
        for of, mask, yes, no in (("history", bought, "warm", "cold"), ("visits", came, "returning", "new")):
            add(of, yes, effect_of(people, primary, mask))
            add(of, no, effect_of(people, primary, ~mask))
    columns = records.columns(
        """
        WITH ranked AS (SELECT user_query, count(*) AS n, sum(count(*)) OVER (ORDER BY count(*) DESC, user_query) AS upto,
                               sum(count(*)) OVER () AS every FROM searches GROUP BY user_query),
             classes AS (SELECT user_query, CASE WHEN upto - n < every * 0.33 THEN 'head' WHEN upto - n < every * 0.67 THEN
               'torso' ELSE 'tail' END AS class FROM ranked)
        SELECT c.class, s.unit, any_value(s.arm) = 'treatment' AS treated, count(*)::DOUBLE AS searches,
          sum(coalesce(o.clicks, 0))::DOUBLE AS clicks
        FROM searches s JOIN classes c USING (user_query) LEFT JOIN of_search o USING (query_id) WHERE s.arm <> 'interleaved'
          GROUP BY c.class, s.unit
        """
    )
    for name in ("head", "torso", "tail"):
        of_class = columns["class"] == name
        arms = [of_class & which for which in (columns["treated"], ~columns["treated"])]
        if min(int(one.sum()) for one in arms) > 1:
            add(
                "queries (clicks per search)",
                name,
                Effect(*(ratio(columns["clicks"][one], columns["searches"][one]) for one in arms)),
            )
    return found
