"""The table `outcomes`: clicks, carts and purchases, each with the search that it followed."""

from __future__ import annotations

from collections.abc import Sequence

from rewriter.experiment.record_files import id_of, time_of
from rewriter.experiment.records import Records
from rewriter.plural import agreeing, count_of

MAX_EARLY_S = 60
"""Seconds by which an event may precede its query; a larger difference of the clocks is reported."""
MAX_LATE_S = 2 * 86_400
"""Seconds after its query within which an event counts."""
MAX_APART = 0.05
"""Share of the events from which on clocks that are apart allow no verdict."""
MAX_REVENUE = 1e12
"""Revenue of one event beyond which it is a fault of the event."""

CLICKS = ("click", "click_through", "item_click", "view", "product_view")
CARTS = ("add_to_cart",)
PURCHASES = ("purchase", "order", "checkout")


def make_outcomes(found: Records, since: str | None) -> None:
    """Make the tables `outcomes` and `past` of the raw events, and count what is left out."""
    _make_events(found)
    _make_distinct(found)
    _make_past(found, since)
    _join_searches(found)
    _check_clocks(found)
    found.connection.execute(
        f"CREATE TABLE outcomes AS SELECT * EXCLUDE (key) FROM joined WHERE after_s BETWEEN -{MAX_EARLY_S} AND {MAX_LATE_S}; "
        "DROP TABLE joined"
    )


def _make_events(found: Records) -> None:
    """Make the table `events` of the raw ones: clicks, carts and purchases, with the revenue of each."""
    found.connection.execute(
        f"""
        CREATE TABLE events AS
        SELECT one.query_id AS query_id, {id_of("one.client_id")} AS client_id, {id_of("one.event_id")} AS event_id,
          CASE WHEN one.action_name IN ({_quoted(CLICKS)}) THEN 'click' WHEN one.action_name IN ({_quoted(CARTS)}) THEN 'cart'
               WHEN one.action_name IN ({_quoted(PURCHASES)}) THEN 'purchase' ELSE 'other' END AS action,
          its.object.object_id AS object_id, {time_of("one.timestamp")} AS moment,
          coalesce(its.price, its.object.price, 0) * coalesce(its.quantity, 1) AS paid,
          CASE WHEN abs(paid) <= {MAX_REVENUE} THEN paid ELSE 0 END AS revenue
        FROM (SELECT one, coalesce(texts, one.event_attributes) AS its FROM raw_events)
        """
    )
    found.connection.execute("DROP TABLE raw_events")
    found.left_out(
        "other actions",
        found.value("SELECT count(*) FROM events WHERE action = 'other'"),
        "event",
        "are neither a click, a cart nor a purchase",
    )
    found.connection.execute("DELETE FROM events WHERE action = 'other'")
    found.left_out(
        "events without a time",
        found.value("SELECT count(*) FROM events WHERE moment IS NULL"),
        "event",
        "have an invalid timestamp",
    )
    unpaid = found.value(f"SELECT count(*) FROM events WHERE moment IS NOT NULL AND NOT abs(paid) <= {MAX_REVENUE}")
    found.left_out("impossible prices", unpaid, "event", "have a price that is impossible, and count without revenue")


def _make_distinct(found: Records) -> None:
    """Make the table `distinct_events` of those with a time, each once.

    An `event_id` names one event, which may have been delivered twice. One that stands on events of several people or actions, or
    of several searches and objects, is none: a constant such as "0", a session's id. With it, all of them would be one outcome.
    """
    found.connection.execute(
        """
        CREATE TABLE no_ids AS SELECT event_id, count(*) AS times FROM events WHERE moment IS NOT NULL AND event_id IS NOT NULL
        GROUP BY event_id HAVING min(client_id) <> max(client_id) OR min(action) <> max(action)
          OR (min(query_id) <> max(query_id) AND min(object_id) <> max(object_id))
        """
    )
    if unnamed := int(found.value("SELECT coalesce(sum(times), 0) FROM no_ids")):
        found.findings.append(
            f"{count_of(unnamed, 'event')} {agreeing(unnamed, 'have')} an event_id that different events share, so it names none; "
            "of these events, those that are equal in every field count once"
        )
    before = found.value("SELECT count(*) FROM events WHERE moment IS NOT NULL")
    found.connection.execute(
        """
        CREATE TABLE distinct_events AS SELECT DISTINCT ON (key) * FROM (
          SELECT * EXCLUDE (paid), coalesce(CASE WHEN event_id NOT IN (SELECT event_id FROM no_ids) THEN event_id END,
            concat_ws('|', query_id, action, object_id, client_id, moment::VARCHAR)) AS key
          FROM events WHERE moment IS NOT NULL) ORDER BY key, moment;
        DROP TABLE events; DROP TABLE no_ids;
        """
    )
    found.left_out(
        "doubled events",
        before - found.value("SELECT count(*) FROM distinct_events"),
        "event",
        "came twice, with one event_id or equal in every field",
    )


def _make_past(found: Records, since: str | None) -> None:
    """Move the events before `since` into the table `past`, as counts of each person."""
    if since:
        found.connection.execute(
            """
            CREATE TABLE past AS SELECT client_id, count(*) FILTER (action = 'click') AS clicks, count(*) FILTER (action =
              'purchase') AS purchases
            FROM distinct_events WHERE moment < TRY_CAST(? AS TIMESTAMPTZ)::TIMESTAMP AND client_id IS NOT NULL GROUP BY
              client_id
            """,
            [since],
        )
        found.connection.execute(
            "DELETE FROM distinct_events WHERE moment < TRY_CAST(? AS TIMESTAMPTZ)::TIMESTAMP", [since]
        )
    else:
        found.connection.execute("CREATE TABLE past (client_id VARCHAR, clicks BIGINT, purchases BIGINT)")


def _join_searches(found: Records) -> None:
    """Make the table `joined` of the events whose search is known, with its unit, arm and time."""
    unknown = found.value(
        "SELECT count(*) FROM distinct_events WHERE query_id IS NULL OR query_id NOT IN (SELECT query_id FROM searches)"
    )
    found.left_out("events without a query", unknown, "event", "name no query of the experiment")
    found.connection.execute(
        """
        CREATE TABLE joined AS SELECT e.*, s.unit, s.arm, s.moment AS searched_at, date_diff('second', s.moment, e.moment) AS
          after_s
        FROM distinct_events e JOIN (SELECT query_id, any_value(unit) AS unit, any_value(arm) AS arm, min(moment) AS moment
          FROM searches GROUP BY query_id) s
        USING (query_id);
        DROP TABLE distinct_events;
        """
    )


def _check_clocks(found: Records) -> None:
    """Count the events whose times are too far from those of their searches. If there are many, the report gives no verdict."""
    early = found.value(f"SELECT count(*) FROM joined WHERE after_s < -{MAX_EARLY_S}")
    late = found.value(f"SELECT count(*) FROM joined WHERE after_s > {MAX_LATE_S}")
    found.left_out(
        "clocks apart",
        early,
        "event",
        f"lie more than {MAX_EARLY_S} s before their query: the clocks of events and searches are apart",
    )
    found.left_out("too late", late, "event", f"lie more than {MAX_LATE_S // 3600} hours after their query")
    total = found.value("SELECT count(*) FROM joined")
    if total and early / total > MAX_APART:
        found.no_verdict.append(
            f"{early / total:.0%} of the events lie before their query: the clocks are apart, and the events left out may favor "
            "an arm"
        )
    # An order may follow days later. A click comes from the page itself.
    clicks = found.value("SELECT count(*) FROM joined WHERE action = 'click'")
    late = found.value(f"SELECT count(*) FROM joined WHERE action = 'click' AND after_s > {MAX_LATE_S}")
    if clicks and late / clicks > MAX_APART:
        found.no_verdict.append(
            f"{late / clicks:.0%} of the clicks lie more than {MAX_LATE_S // 3600} hours after their query: the clocks are apart, "
            "and the events left out may favor an arm"
        )


def _quoted(actions: Sequence[str]) -> str:
    return ", ".join(f"'{one}'" for one in actions)
