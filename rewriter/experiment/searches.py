"""The table `searches`: one row for each recorded search of the experiment, without the ones that are unusable."""

from __future__ import annotations

from rewriter.experiment.record_files import id_of, time_of
from rewriter.experiment.records import ARMS, Records

OTHER_EXPERIMENTS = 0.01
"""Share of the searches up to which those of other experiments are left out: of a process that was restarted late. With more, the
salt was changed within the window, and there is no verdict."""


def make_searches(found: Records, since: str | None) -> None:
    """Make the tables `searches` and `history` of the raw queries, and count what is left out."""
    read = found.value("SELECT count(*) FROM raw_queries")
    before = "moment < TRY_CAST(? AS TIMESTAMPTZ)::TIMESTAMP" if since else "false AND ? IS NULL"
    found.connection.execute(
        f"""
        CREATE TABLE searches AS SELECT *, coalesce({before}, false) AS is_history FROM (
          SELECT one.query_id AS query_id, {id_of("one.client_id")} AS client_id, lower(trim(coalesce(one.user_query, '')))
            AS user_query,
            {time_of("one.timestamp")} AS moment, one.query_response_hit_ids AS hits,
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
    _delete(found, "shared query ids", SHARED, "search", why)
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
    _delete(found, "outside the experiment", "arm IS NULL OR unit IS NULL", "search", why)
    _delete(found, "unknown arm", f"arm NOT IN {ARMS}", "search", "name an arm that is none of the experiment's")
    others = "experiment <> (SELECT experiment FROM searches GROUP BY ALL ORDER BY count(*) DESC, experiment LIMIT 1)"
    if _share(found, others) <= OTHER_EXPERIMENTS:
        why = "are of another experiment: of another salt, or of a version that did not name it"
        _delete(found, "other experiments", others, "search", why)
    mixed = found.value("SELECT count(*) FROM (SELECT unit FROM searches GROUP BY unit HAVING count(DISTINCT arm) > 1)")
    found.left_out("in both arms", mixed, "person", "were in both arms: a share or the salt was changed meanwhile")
    found.connection.execute(
        "DELETE FROM searches WHERE unit IN (SELECT unit FROM searches GROUP BY unit HAVING count(DISTINCT arm) > 1)"
    )


SHARED = "query_id IN (SELECT query_id FROM searches GROUP BY query_id HAVING min(unit) <> max(unit))"


def _share(found: Records, condition: str) -> float:
    share: float | None = found.value(f"SELECT avg(CAST({condition} AS INTEGER)) FROM searches")
    return share or 0.0


def _delete(found: Records, name: str, condition: str, noun: str, why: str) -> None:
    """Leave rows of `searches` out, and note how many."""
    count = found.value(f"SELECT count(*) FROM searches WHERE {condition}")
    if count:
        found.connection.execute(f"DELETE FROM searches WHERE {condition}")
    found.left_out(name, count, noun, why)
