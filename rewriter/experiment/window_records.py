"""The people of an experiment's window, made of files of UBI queries and events: one row for each, and one for each day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from rewriter.errors import ConfigurationError, Fault
from rewriter.experiment.outcomes import make_outcomes
from rewriter.experiment.record_files import EVENT, QUERY, load
from rewriter.experiment.records import Records
from rewriter.experiment.searches import make_searches
from rewriter.plural import agreeing, count_of
from rewriter.signals.backfill.spelling import MACROS

BOT_SHARE = 0.1
"""Share of all searches or of all clicks from which on a single person counts as a bot."""
MIN_SEARCHES_FOR_BOTS = 1_000
"""Number of searches or clicks below which a person with a tenth of them is not unusual."""
MEMORY = "1500MB"


def read_records(queries: Sequence[Path], events: Sequence[Path], since: str | None = None) -> Records:
    """Return the records of files. since: when the experiment began (ISO 8601, without a zone UTC); earlier records are history.

    Raises ConfigurationError with every file that cannot be read, and ValueError for a `since` that is not a time.
    """
    if since is not None:
        began = datetime.fromisoformat(since)
        since = (began if began.tzinfo else began.replace(tzinfo=UTC)).isoformat()
    connection = duckdb.connect(":memory:")
    connection.execute(
        f"SET memory_limit='{MEMORY}'; SET preserve_insertion_order=false; SET enable_progress_bar=false; SET TimeZone='UTC'"
    )
    for macro in MACROS:
        connection.execute(macro)
    found = Records(connection)
    faults: list[Fault] = []
    for name, paths, form in (("raw_queries", queries, QUERY), ("raw_events", events, EVENT)):
        load(found, name, paths, form, faults)
    if faults:
        raise ConfigurationError(faults)
    make_searches(found, since)
    make_outcomes(found, since)
    _leave_out_bots(found)
    _people(found)
    _check_experiment(found)
    return found


def _leave_out_bots(found: Records) -> None:
    found.connection.execute(
        f"""
        CREATE TABLE bots AS
        SELECT unit FROM (SELECT unit, count(*) AS n, sum(count(*)) OVER () AS every FROM searches GROUP BY unit)
        WHERE n >= {BOT_SHARE} * every AND every >= {MIN_SEARCHES_FOR_BOTS}
        UNION
        SELECT unit FROM (SELECT unit, count(*) AS n, sum(count(*)) OVER () AS every FROM outcomes WHERE action = 'click'
          GROUP BY unit)
        WHERE n >= {BOT_SHARE} * every AND every >= {MIN_SEARCHES_FOR_BOTS}
        """
    )
    found.left_out(
        "bots",
        found.value("SELECT count(*) FROM bots"),
        "person",
        f"made {BOT_SHARE:.0%} or more of all searches or clicks alone",
    )
    for table in ("searches", "outcomes"):
        found.connection.execute(f"DELETE FROM {table} WHERE unit IN (SELECT unit FROM bots)")


def _people(found: Records) -> None:
    found.connection.execute(
        """
        CREATE TABLE of_search AS SELECT query_id,
          count(*) FILTER (action = 'click') AS clicks, count(*) FILTER (action = 'cart') AS carts,
          count(*) FILTER (action = 'purchase') AS purchases, coalesce(sum(revenue) FILTER (action = 'purchase'), 0) AS revenue
        FROM outcomes GROUP BY query_id;
        CREATE TABLE days AS SELECT s.unit, any_value(s.arm) AS arm, CAST(s.moment AS DATE) AS day, count(*) AS searches,
          sum(coalesce(o.clicks, 0)) AS clicks, count(*) FILTER (coalesce(o.clicks, 0) > 0) AS clicked,
          sum(coalesce(o.carts, 0)) AS carts, sum(coalesce(o.purchases, 0)) AS purchases,
          sum(coalesce(o.revenue, 0)) AS revenue, count(*) FILTER (s.shown = 0) AS empty
        FROM (SELECT DISTINCT ON (query_id) * FROM searches WHERE arm <> 'interleaved' ORDER BY query_id, first_position) s
          LEFT JOIN of_search o USING
          (query_id)
        GROUP BY s.unit, CAST(s.moment AS DATE);
        CREATE TABLE clients AS SELECT unit, any_value(client_id) AS client_id FROM searches WHERE client_id IS NOT NULL
          GROUP BY unit;
        CREATE TABLE people AS SELECT d.unit, any_value(d.arm) = 'treatment' AS treated, min(d.day) AS first_day,
          sum(d.searches)::DOUBLE AS searches, sum(d.clicks)::DOUBLE AS clicks, sum(d.clicked)::DOUBLE AS clicked,
            sum(d.carts)::DOUBLE AS carts,
          sum(d.purchases)::DOUBLE AS purchases, sum(d.revenue)::DOUBLE AS revenue, sum(d.empty)::DOUBLE AS empty,
          (sum(d.purchases) > 0)::DOUBLE AS bought,
          any_value(h.searches)::DOUBLE AS searches_before, any_value(p.clicks)::DOUBLE AS clicks_before,
          any_value(p.purchases)::DOUBLE AS purchases_before
        FROM days d LEFT JOIN clients USING (unit) LEFT JOIN history h USING (client_id) LEFT JOIN past p USING (client_id)
        GROUP BY d.unit;
        """
    )


def _check_experiment(found: Records) -> None:
    """Report the reasons why the window holds no experiment, or more than one."""
    arms = dict(found.rows("SELECT treated, count(*) FROM people GROUP BY treated"))
    if not arms:
        found.no_verdict.append("no search of the window is in an arm of the experiment (holdout 0, or not rolled out)")
    elif len(arms) == 1:
        missing = "holdout" if True in arms else "treatment"
        found.no_verdict.append(f"the arm `{missing}` is missing: it has no people")
    salts = found.value("SELECT count(DISTINCT experiment) FROM searches")
    if salts and salts > 1:
        found.no_verdict.append(
            f"the experiment's salt was changed: the window holds {count_of(salts, 'experiment')}; give --since"
        )
    versions = found.value(
        "SELECT count(DISTINCT version) FROM searches WHERE version IS NOT NULL AND arm = 'treatment'"
    )
    if versions and versions > 1:
        found.findings.append(
            f"{count_of(versions, 'template version')} served in the window; the lift is of all of them together"
        )
    without = found.value("SELECT count(*) FROM searches WHERE query_id NOT IN (SELECT query_id FROM outcomes)")
    total = found.value("SELECT count(*) FROM searches")
    if total:
        found.findings.append(
            f"{without:,} of {count_of(total, 'search')} {agreeing(without, 'have')} no event: {without / total:.0%}"
        )
    unlisted = found.value("SELECT count(*) FROM searches WHERE shown IS NULL")
    if unlisted:
        found.findings.append(
            f"{unlisted:,} of {count_of(total, 'search')} {agreeing(unlisted, 'hold')} no list of hits: nothing is known of "
            "their pages, empty ones included"
        )
    moved = found.value(
        "SELECT count(*) FROM (SELECT client_id FROM searches WHERE client_id IS NOT NULL GROUP BY client_id "
        "HAVING count(DISTINCT unit) > 1 AND count(DISTINCT arm) > 1)"
    )
    if moved:
        found.findings.append(
            f"{count_of(moved, 'client')} changed arms at a log-in: each unit counts in its own arm, which draws the arms together"
        )
