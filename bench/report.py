"""Time and memory of `rewriter report` over a million searches from Parquet.

DuckDB generates the records: 100,000 people over 28 days, ten hits per page, a click on a third of the pages.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

SEARCHES = 1_000_000
PEOPLE = 100_000

QUERIES = """
COPY (
  SELECT 'q' || i AS query_id, 'r' || i AS query_response_id, 'c' || person AS client_id, 'words ' || (hash(i + 3) % 5000) AS
    user_query,
    strftime(TIMESTAMP '2026-09-01' + INTERVAL (i * 2.4) SECOND, '%Y-%m-%dT%H:%M:%S.000Z') AS "timestamp",
    list_transform(range(10), lambda n: 'p' || (hash(i * 10 + n) % 50000)) AS query_response_hit_ids,
    to_json({'rewriter': {
      'form': 1, 'arm': CASE WHEN treated THEN 'treatment' ELSE 'holdout' END, 'unit': md5(person::VARCHAR), 'holdout': 0.1,
        'experiment': 'e',
      'variant': 'personalized', 'reason': CASE WHEN treated THEN 'personalized' ELSE 'holdout' END, 'policy': 'shop',
        'positions': range(10),
      'total': 400, 'template_version': CASE WHEN treated THEN 'v1' END, 'baseline_ms': 9.0, 'added_ms': (hash(i + 5) % 200)
        / 10.0,
      'categories': list_transform(range(10), lambda n: 'k' || (hash(i * 10 + n + 9) % 40)),
      'ages_days': list_transform(range(10), lambda n: (hash(i * 10 + n + 11) % 4000) / 10.0),
      'slots': CASE WHEN treated THEN [{'position': 6, 'object_id': 'p' || (hash(i * 10 + 6) % 50000), 'propensity': 0.02 +
        (hash(i) % 30) / 100.0}] END
    }}) AS query_attributes
  FROM (SELECT i, hash(i + 1) % {people} AS person, hash(hash(i + 1) % {people} + 7) % 10 > 0 AS treated FROM
    range({searches}) t(i))
) TO '{path}' (FORMAT parquet)
"""

EVENTS = """
COPY (
  SELECT 'q' || i AS query_id, 'e' || i || '-' || n AS event_id, 'c' || (hash(i + 1) % {people}) AS client_id,
    CASE WHEN n = 0 THEN 'click' ELSE 'purchase' END AS action_name,
    strftime(TIMESTAMP '2026-09-01' + INTERVAL (i * 2.4 + 9) SECOND, '%Y-%m-%dT%H:%M:%S.000Z') AS "timestamp",
    to_json({'object': {'object_id': 'p' || (hash(i * 10 + hash(i) % 10) % 50000)}, 'price': 5.0 + hash(i) % 90}) AS
      event_attributes
  FROM range({searches}) t(i), range(2) u(n) WHERE hash(i + 2) % 3 = 0 AND (n = 0 OR hash(i + 4) % 20 = 0)
) TO '{path}' (FORMAT parquet)
"""


def main() -> None:
    """Print one line of JSON: seconds, seconds of CPU on all cores, and the peak of resident memory in GiB."""
    with tempfile.TemporaryDirectory(prefix="rewriter-bench-") as folder:
        paths = Path(folder) / "queries.parquet", Path(folder) / "events.parquet"
        for sql, path in zip((QUERIES, EVENTS), paths, strict=True):
            filled = (
                sql.replace("{people}", str(PEOPLE)).replace("{searches}", str(SEARCHES)).replace("{path}", str(path))
            )
            duckdb.execute(filled)
        measured = (
            "import resource, sys; from rewriter.cli import app\n"
            "try: app(standalone_mode=False)\n"
            "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
        )
        files = ["--queries", str(paths[0]), "--events", str(paths[1]), "--html", f"{folder}/report.html"]
        command = [sys.executable, "-c", measured, "report", *files]
        began_s = time.perf_counter()
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
        took_s = time.perf_counter() - began_s
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak_gib = int(ended.stderr.split()[-1]) / 2**20
    print(
        json.dumps(
            {
                "searches": SEARCHES,
                "took_s": round(took_s, 1),
                "cpu_s": round(used.ru_utime + used.ru_stime, 1),
                "peak_gib": round(peak_gib, 2),
                "says": (ended.stdout or ended.stderr).splitlines()[:1],
            }
        )
    )


if __name__ == "__main__":
    main()
