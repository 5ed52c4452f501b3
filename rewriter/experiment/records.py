"""People from UBI queries and events: reads NDJSON and Parquet with DuckDB, and leaves out and counts unusable rows.

Everything runs in DuckDB, whose memory is bounded, so that a million searches need no million Python objects. The result is small:
one row for each person, and one for each person and day.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from rewriter.errors import ConfigurationError, Fault

BOT_SHARE = 0.1
"""Share of all searches or of all clicks from which on a single person counts as a bot."""
MIN_SEARCHES_FOR_BOTS = 1_000
"""Number of searches or clicks below which a person with a tenth of them is not unusual."""
MAX_EARLY_S = 60
"""Seconds by which an event may precede its query; a larger difference of the clocks is reported."""
MAX_LATE_S = 2 * 86_400
"""Seconds after its query within which an event counts."""
MAX_APART = 0.05
"""Share of the events from which on clocks that are apart allow no verdict."""
MAX_REVENUE = 1e12
"""Revenue of one event beyond which it is a fault of the event."""
MEMORY = "1500MB"

CLICKS = ("click", "click_through", "item_click", "view", "product_view")
CARTS = ("add_to_cart",)
PURCHASES = ("purchase", "order", "checkout")
ARMS = ("treatment", "holdout", "interleaved")
FAILED = ("search_failed", "search_late", "search_rejected", "template_failed", "answers_differ")


@dataclass(frozen=True, slots=True)
class Filter:
    """The rows or people that one filter left out: their number and the reason as a phrase."""

    name: str
    count: int
    what: str
    why: str


@dataclass(slots=True)
class Records:
    """The records in a DuckDB connection with the tables `searches`, `outcomes`, `people` and `days`."""

    connection: duckdb.DuckDBPyConnection
    filters: list[Filter] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    no_verdict: list[str] = field(default_factory=list)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self.connection.execute(sql, list(parameters)).fetchall()

    def value(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Return the first value of a query's first row."""
        row = self.connection.execute(sql, list(parameters)).fetchone()
        return row[0] if row else None

    def columns(self, sql: str, parameters: Sequence[Any] = ()) -> Mapping[str, Any]:
        """Return a query's columns as numpy arrays."""
        return self.connection.execute(sql, list(parameters)).fetchnumpy()


OURS = {
    "arm": "VARCHAR", "unit": "VARCHAR", "holdout": "DOUBLE", "experiment": "VARCHAR", "reason": "VARCHAR", "policy": "VARCHAR",
    "mode": "VARCHAR",
    "source": "VARCHAR", "template_version": "VARCHAR", "positions": ["INTEGER"], "total": "BIGINT", "baseline_ms": "DOUBLE",
    "added_ms": "DOUBLE", "slots": [{"object_id": "VARCHAR", "propensity": "DOUBLE"}], "teams": "VARCHAR",
    "categories": ["VARCHAR"], "ages_days": ["DOUBLE"], "intra_list_diversity": "DOUBLE",
}  # fmt: skip
QUERY = {
    "query_id": "VARCHAR", "client_id": "VARCHAR", "user_query": "VARCHAR", "timestamp": "VARCHAR",
    "query_response_hit_ids": ["VARCHAR"], "query_attributes": {"rewriter": OURS},
}  # fmt: skip
EVENT = {
    "query_id": "VARCHAR", "client_id": "VARCHAR", "event_id": "VARCHAR", "action_name": "VARCHAR", "timestamp": "VARCHAR",
    "event_attributes": {
        "object": {"object_id": "VARCHAR", "price": "DOUBLE"}, "price": "DOUBLE", "quantity": "DOUBLE",
    },
}  # fmt: skip
"""The fields of a document that are read, in one pass; a value of another type is null."""


def read_records(queries: Sequence[Path], events: Sequence[Path], since: str | None = None) -> Records:
    """Return the records of files. since: when the experiment began (ISO 8601, without a zone UTC); earlier records are history.

    Raises ConfigurationError with every file that cannot be read, and ValueError for a `since` that is no time.
    """
    if since is not None:
        began = datetime.fromisoformat(since)
        since = (began if began.tzinfo else began.replace(tzinfo=UTC)).isoformat()
    connection = duckdb.connect(":memory:")
    connection.execute(
        f"SET memory_limit='{MEMORY}'; SET preserve_insertion_order=false; SET enable_progress_bar=false; SET TimeZone='UTC'"
    )
    found = Records(connection)
    faults: list[Fault] = []
    for name, paths, form in (("raw_queries", queries, QUERY), ("raw_events", events, EVENT)):
        _load(found, name, paths, form, faults)
    if faults:
        raise ConfigurationError(faults)
    _queries(found, since)
    _events(found, since)
    _leave_out_bots(found)
    _people(found)
    _check_experiment(found)
    return found


def _load(found: Records, name: str, paths: Sequence[Path], form: Mapping[str, Any], faults: list[Fault]) -> None:
    """Make a table of the documents, one row each, for any columns of the files. Attributes may be JSON within a text."""
    nested = "query_attributes" if "query_attributes" in form else "event_attributes"
    wanted, inner = json.dumps(form), json.dumps(form[nested])
    chosen = (
        f"json_transform(doc, '{wanted}') AS one, CASE WHEN json_type(doc, '$.{nested}') = 'VARCHAR' "
        f"THEN json_transform(TRY_CAST(doc->>'$.{nested}' AS JSON), '{inner}') END AS texts"
    )
    found.connection.execute(f"CREATE TABLE {name} AS SELECT {chosen} FROM (SELECT NULL::JSON AS doc) WHERE false")
    for path in paths:
        try:
            if path.suffix == ".parquet":
                columns = found.rows("DESCRIBE SELECT * FROM read_parquet(?)", [_literal(path)])
                kinds = {str(column): str(kind) for column, kind, *_ in columns}
                source = f"SELECT {_of_columns(form, nested, kinds)} FROM read_parquet(?)"
            else:
                _count_lines(found, path)
                documents = "read_ndjson_objects(?, ignore_errors=true, maximum_object_size=16777216)"
                source = f"SELECT {chosen} FROM (SELECT json AS doc FROM {documents}) WHERE doc IS NOT NULL"
            found.connection.execute(f"INSERT INTO {name} {source}", [_literal(path)])
        except duckdb.Error as error:
            cause = str(error).splitlines()[0][:200]
            faults.append(Fault(str(path), f"cannot be read: {cause}", "give NDJSON or Parquet"))


def _of_columns(form: Mapping[str, Any], nested: str, kinds: Mapping[str, str]) -> str:
    """Return the expressions of `one` and `texts` for a file with columns of these types, as for a document with these fields.

    A column that has the right type already is not converted: a document made from the whole row costs twice the time.
    """
    parts, texts = [], "NULL"
    for name, wanted in form.items():
        kind, quoted, shape = kinds.get(name), f'"{name}"', json.dumps(wanted)
        if kind is None:
            parts.append(f"\"{name}\" := json_transform(NULL::JSON, '{shape}')")
        elif name == nested and kind in ("VARCHAR", "JSON"):
            parsed = f"TRY_CAST({quoted} AS JSON)"
            parts.append(f"\"{name}\" := json_transform({parsed}, '{shape}')")
            texts = (
                f"CASE WHEN json_type({parsed}) = 'VARCHAR' "
                f"THEN json_transform(TRY_CAST({parsed}->>'$' AS JSON), '{shape}') END"
            )
        elif (wanted, kind) in (("VARCHAR", "VARCHAR"), (["VARCHAR"], "VARCHAR[]")):
            parts.append(f'"{name}" := {quoted}')
        else:
            parts.append(f"\"{name}\" := json_transform(to_json({quoted}), '{shape}')")
    return f"struct_pack({', '.join(parts)}) AS one, {texts} AS texts"


def _count_lines(found: Records, path: Path) -> None:
    """Count the lines that are not JSON objects, which DuckDB leaves out silently."""
    sql = "SELECT count(*) FROM read_ndjson_objects(?, ignore_errors=true, maximum_object_size=16777216) WHERE json IS NULL"
    _left_out(found, "no JSON", found.value(sql, [_literal(path)]), "lines", f"of {path.name} are not JSON")


def _literal(path: Path) -> str:
    """Return a path for DuckDB, with the characters of its patterns escaped."""
    return "".join(f"[{one}]" if one in "*?[" else one for one in str(path))


TIME = """
CASE
  WHEN {0} IS NULL OR NOT regexp_matches({0}, '^[0-9]') THEN NULL
  WHEN regexp_full_match({0}, '[0-9]{{12,14}}(\\.[0-9]+)?') THEN make_timestamp(CAST(CAST({0} AS DOUBLE) * 1000 AS BIGINT))
  WHEN regexp_full_match({0}, '[0-9]{{9,11}}(\\.[0-9]+)?') THEN make_timestamp(CAST(CAST({0} AS DOUBLE) * 1000000 AS BIGINT))
  WHEN regexp_full_match({0}, '[0-9]{{15,17}}') THEN make_timestamp(CAST({0} AS BIGINT))
  ELSE TRY_CAST(regexp_replace({0}, '([+-][0-9]{{2}})([0-9]{{2}})$', '\\1:\\2') AS TIMESTAMPTZ)::TIMESTAMP
END
"""
"""UBI's dialects: milliseconds, seconds, microseconds, ISO 8601 with `Z`, `+00:00` or `+0000`, or without a zone (read as UTC).
DuckDB's own words for times, such as `infinity`, are none."""


def _time(expression: str) -> str:
    return TIME.format(expression)


def _left_out(found: Records, name: str, count: int, what: str, why: str) -> None:
    if count:
        found.filters.append(Filter(name, count, what, why))


def _queries(found: Records, since: str | None) -> None:
    read = found.value("SELECT count(*) FROM raw_queries")
    before = "moment < TRY_CAST(? AS TIMESTAMPTZ)::TIMESTAMP" if since else "false AND ? IS NULL"
    found.connection.execute(
        f"""
        CREATE TABLE searches AS SELECT *, coalesce({before}, false) AS is_history FROM (
          SELECT one.query_id AS query_id, nullif(one.client_id, '') AS client_id, lower(trim(coalesce(one.user_query, '')))
            AS user_query,
            {_time("one.timestamp")} AS moment, one.query_response_hit_ids AS hits,
            len(one.query_response_hit_ids) AS shown,
            ours.arm AS arm, ours.unit AS unit, ours.reason AS reason, ours.policy AS policy, ours.template_version AS version,
            coalesce(ours.experiment, '') AS experiment, CASE WHEN ours.holdout BETWEEN 0 AND 1 THEN ours.holdout END AS holdout,
            coalesce(ours.positions[1], 0) AS
              first_position,
            ours.total AS total, ours.baseline_ms AS baseline_ms, ours.added_ms AS added_ms,
            ours.slots AS slots, ours.teams AS teams, ours.categories AS categories, ours.ages_days AS ages,
            ours.intra_list_diversity AS unlike, ours.mode AS mode, ours IS NULL AS
              foreign_one
          FROM (SELECT one, coalesce(one.query_attributes.rewriter, texts.rewriter) AS ours FROM raw_queries))
        """,
        [since],
    )
    found.connection.execute("DROP TABLE raw_queries")
    why = "have no record of the rewriter (the plugin's own, or another source's)"
    _delete(found, "not ours", "foreign_one", "queries", why)
    _delete(
        found,
        "no time",
        "moment IS NULL OR query_id IS NULL",
        "queries",
        "have no query_id, or an invalid timestamp",
    )
    why = "have a query_id that several people share, so that events do not tell whose search they belong to"
    _delete(found, "shared query ids", SHARED, "searches", why)
    again = """rowid IN (SELECT unnest(list(rowid ORDER BY moment, rowid)[2:]) FROM
      (SELECT query_id, first_position, moment, rowid FROM searches WHERE query_id IN
        (SELECT query_id FROM searches GROUP BY query_id HAVING count(*) > 1)) GROUP BY query_id, first_position)"""
    _delete(found, "doubled queries", again, "queries", "were recorded twice, with one query_id and page")
    if not read:
        found.no_verdict.append("the records hold no queries")
    history = "CREATE TABLE history AS SELECT client_id, count(*) AS searches FROM searches WHERE is_history GROUP BY client_id"
    found.connection.execute(history)
    found.connection.execute("DELETE FROM searches WHERE is_history")
    why = "are in no arm: unknown visitor, no consent, switched off, or not rolled out"
    _delete(found, "outside the experiment", "arm IS NULL OR unit IS NULL", "searches", why)
    _delete(found, "unknown arm", f"arm NOT IN {ARMS}", "searches", "name an arm that is none of the experiment's")
    mixed = found.value("SELECT count(*) FROM (SELECT unit FROM searches GROUP BY unit HAVING count(DISTINCT arm) > 1)")
    _left_out(found, "in both arms", mixed, "people", "were in both arms: a share or the salt was changed meanwhile")
    found.connection.execute(
        "DELETE FROM searches WHERE unit IN (SELECT unit FROM searches GROUP BY unit HAVING count(DISTINCT arm) > 1)"
    )


SHARED = "query_id IN (SELECT query_id FROM searches GROUP BY query_id HAVING min(unit) <> max(unit))"


def _delete(found: Records, name: str, condition: str, what: str, why: str) -> None:
    """Leave rows of `searches` out, and note how many."""
    count = found.value(f"SELECT count(*) FROM searches WHERE {condition}")
    if count:
        found.connection.execute(f"DELETE FROM searches WHERE {condition}")
    _left_out(found, name, count, what, why)


def _events(found: Records, since: str | None) -> None:
    def named(actions: Sequence[str]) -> str:
        return ", ".join(f"'{one}'" for one in actions)

    found.connection.execute(
        f"""
        CREATE TABLE events AS
        SELECT one.query_id AS query_id, nullif(one.client_id, '') AS client_id, one.event_id AS event_id,
          CASE WHEN one.action_name IN ({named(CLICKS)}) THEN 'click' WHEN one.action_name IN ({named(CARTS)}) THEN 'cart'
               WHEN one.action_name IN ({named(PURCHASES)}) THEN 'purchase' ELSE 'other' END AS action,
          its.object.object_id AS object_id, {_time("one.timestamp")} AS moment,
          coalesce(its.price, its.object.price, 0) * coalesce(its.quantity, 1) AS paid,
          CASE WHEN abs(paid) <= {MAX_REVENUE} THEN paid ELSE 0 END AS revenue
        FROM (SELECT one, coalesce(texts, one.event_attributes) AS its FROM raw_events)
        """
    )
    found.connection.execute("DROP TABLE raw_events")
    _left_out(
        found,
        "other actions",
        found.value("SELECT count(*) FROM events WHERE action = 'other'"),
        "events",
        "are neither a click, a cart nor a purchase",
    )
    found.connection.execute("DELETE FROM events WHERE action = 'other'")
    _left_out(
        found,
        "events without a time",
        found.value("SELECT count(*) FROM events WHERE moment IS NULL"),
        "events",
        "have an invalid timestamp",
    )
    unpaid = found.value(f"SELECT count(*) FROM events WHERE moment IS NOT NULL AND NOT abs(paid) <= {MAX_REVENUE}")
    _left_out(
        found, "impossible prices", unpaid, "events", "have a price that is impossible, and count without revenue"
    )
    before = found.value("SELECT count(*) FROM events WHERE moment IS NOT NULL")
    found.connection.execute(
        """
        CREATE TABLE distinct_events AS SELECT DISTINCT ON (key) * FROM (
          SELECT * EXCLUDE (paid),
            coalesce(event_id, concat_ws('|', query_id, action, object_id, client_id, moment::VARCHAR)) AS key
          FROM events WHERE moment IS NOT NULL) ORDER BY key, moment;
        DROP TABLE events;
        """
    )
    _left_out(
        found,
        "doubled events",
        before - found.value("SELECT count(*) FROM distinct_events"),
        "events",
        "came twice, with one event_id or equal in every field",
    )
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
    unknown = found.value(
        "SELECT count(*) FROM distinct_events WHERE query_id IS NULL OR query_id NOT IN (SELECT query_id FROM searches)"
    )
    _left_out(found, "events without a query", unknown, "events", "name no query of the experiment")
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
    early = found.value(f"SELECT count(*) FROM joined WHERE after_s < -{MAX_EARLY_S}")
    late = found.value(f"SELECT count(*) FROM joined WHERE after_s > {MAX_LATE_S}")
    _left_out(
        found,
        "clocks apart",
        early,
        "events",
        f"lie more than {MAX_EARLY_S} s before their query: the clocks of events and searches are apart",
    )
    _left_out(found, "too late", late, "events", f"lie more than {MAX_LATE_S // 3600} hours after their query")
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
    found.connection.execute(
        f"CREATE TABLE outcomes AS SELECT * EXCLUDE (key) FROM joined WHERE after_s BETWEEN -{MAX_EARLY_S} AND {MAX_LATE_S}; "
        "DROP TABLE joined"
    )


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
    _left_out(
        found,
        "bots",
        found.value("SELECT count(*) FROM bots"),
        "people",
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
    """Report the reasons why the window is no experiment, or more than one."""
    arms = dict(found.rows("SELECT treated, count(*) FROM people GROUP BY treated"))
    if not arms:
        found.no_verdict.append("no search of the window is in an arm of the experiment (holdout 0, or not rolled out)")
    elif len(arms) == 1:
        missing = "holdout" if True in arms else "treatment"
        found.no_verdict.append(f"the arm `{missing}` is missing: it has no people")
    salts = found.value("SELECT count(DISTINCT experiment) FROM searches")
    if salts and salts > 1:
        found.no_verdict.append(
            f"the experiment's salt was changed: the window holds {salts} experiments; give --since"
        )
    versions = found.value(
        "SELECT count(DISTINCT version) FROM searches WHERE version IS NOT NULL AND arm = 'treatment'"
    )
    if versions and versions > 1:
        found.findings.append(f"{versions} template versions served in the window; the lift is of all of them together")
    without = found.value("SELECT count(*) FROM searches WHERE query_id NOT IN (SELECT query_id FROM outcomes)")
    total = found.value("SELECT count(*) FROM searches")
    if total:
        found.findings.append(f"{without:,} of {total:,} searches have no event: {without / total:.0%}")
    unlisted = found.value("SELECT count(*) FROM searches WHERE shown IS NULL")
    if unlisted:
        found.findings.append(
            f"{unlisted:,} of {total:,} searches hold no list of hits: nothing is known of their pages, empty ones included"
        )
    moved = found.value(
        "SELECT count(*) FROM (SELECT client_id FROM searches WHERE client_id IS NOT NULL GROUP BY client_id "
        "HAVING count(DISTINCT unit) > 1 AND count(DISTINCT arm) > 1)"
    )
    if moved:
        found.findings.append(
            f"{moved:,} clients changed arms at a log-in: each unit counts in its own arm, which draws the arms together"
        )
