"""The stage of a season: an index with the shelf's products, the history as a file, and the settings of one variant."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from opensearchpy import OpenSearch

from rewriter.demo.corpus import Corpus, baseline_query, create_index, load
from rewriter.settings import HOUR_S, WEEK_S, Settings
from rewriter.shell.template_files import packaged_templates
from season.parameters import Parameters, read
from season.shelf import Shelf, shelf_of
from season.shop import SHOP
from season.twins import Pair, pairs_of
from season.visits import Visit, accounts_of, visits_of

POLICY = "shop"
STAGE = "stage.json"
COUNTED = ("product_type", "manufacturer", "package_size", "brand")
PATIENCE_MS = 5_000.0
"""Time budgets of the season, which measures rankings and not speed: on a busy machine nothing may be late."""
HARMFUL = """\
{# Planted: raises whatever is nothing that the person likes. #}
[{% if affinities %}{"filter": {"bool": {"must_not": [{% for a in affinities %}{{ a.filter }}{% if not loop.last %}, {% endif %}\
{% endfor %}]}}, "weight": 4}{% endif %}]
"""


ORIGIN, SIMULATED_ORIGIN = '"origin": "now"', '"origin": {{ request.body.stats | default(["now"]) | first }}'
"""The origin of the exploration template's decay, and that of the season: the day that `search_of` gives. The server's clock is
weeks ahead, and at another time in each run."""


def search_of(words: str, now_s: float) -> dict[str, Any]:
    """Return a visit's search: ten hits for `words`. `stats`, which groups searches in the server's statistics, is the day."""
    day = datetime.fromtimestamp(now_s, UTC).date().isoformat()
    return {"query": baseline_query(words), "size": 10, "_source": ["manufacturer", "listed"], "stats": [day]}


@dataclass(frozen=True, slots=True)
class Variant:
    """One season: its name, and its differences from the shop's settings. verdicts: the verdicts that the report may give."""

    name: str
    what: str
    verdicts: frozenset[str]
    policy: Mapping[str, Any]
    shadow: bool = False

    @property
    def is_personalized(self) -> bool:
        """Whether any page differs from the caller's own."""
        return not self.shadow


VARIANTS = (
    # Exploration costs clicks: the remaining lift may be too small to be detected in a season of this size.
    Variant("lift", "the shop's policy, with exploration", frozenset({"helps", "cannot tell yet"}), {}),
    Variant("harmful", "a planted template raises what people do not like", frozenset({"harms"}),
            {"templates": "harmful", "max_boost": 5}),
    Variant("unexplored", "the same without exploration", frozenset({"helps"}), {"exploration_share": 0}),
    Variant("aa", "shadow: both arms see the caller's own pages", frozenset({"cannot tell yet"}), {}, shadow=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stage:
    """The data that all variants share. `moved_s`: shift of the corpus' times by whole weeks, so that its season has just ended."""

    url: str
    store_url: str
    index: str
    moved_s: float
    folder: Path
    given: Parameters
    shelf: Shelf
    accounts: Mapping[str, str]
    twins: Sequence[Pair]

    @property
    def history(self) -> Path:
        """The purchases before the season, in the format of `rewriter backfill`."""
        return self.folder / "history.parquet"

    @property
    def starts_s(self) -> float:
        """Start of the season (seconds since the epoch)."""
        return self.shelf.baskets[0].at_s + self.moved_s

    def visits(self, count: int) -> list[Visit]:
        """Return `count` visits, at the season's times."""
        found = visits_of(self.shelf, self.given.visits, count, self.given.season.seed)
        return [replace(one, at_s=one.at_s + self.moved_s) for one in found]


@contextmanager
def opened(given: Parameters, url: str, store_url: str, folder: Path, corpus: Corpus | None = None) -> Iterator[Stage]:
    """Create index and history, and note them in `folder`; remove the index at the end. corpus: by default Complete Journey."""
    whole = corpus or load(popularity_until_week=given.catalogue.history_weeks)
    shelf = shelf_of(whole, given.catalogue)
    index = f"season-{uuid.uuid4().hex[:8]}"
    stage = _stage(given, url, store_url, index, folder, moved_by(shelf, time.time()), shelf)
    days = timedelta(seconds=stage.moved_s)
    products = [
        replace(one, listed=one.listed + days if one.listed else None) for one in shelf.corpus.products.values()
    ]
    noted = {"url": url, "store_url": store_url, "index": index, "moved_s": stage.moved_s, "seed": given.season.seed}
    with OpenSearch(hosts=[url], timeout=60) as client:
        try:
            create_index(client, index, products)
            _write_history(stage)
            (folder / STAGE).write_text(json.dumps(noted), "utf-8")
            yield stage
        finally:
            client.indices.delete(index=index, ignore_unavailable=True)


def reopened(folder: Path) -> Stage:
    """Return the stage that another process opened."""
    noted = json.loads((folder / STAGE).read_text("utf-8"))
    given = read()
    given = replace(given, season=replace(given.season, seed=noted["seed"]))
    shelf = shelf_of(load(popularity_until_week=given.catalogue.history_weeks), given.catalogue)
    return _stage(given, noted["url"], noted["store_url"], noted["index"], folder, noted["moved_s"], shelf)


def moved_by(shelf: Shelf, now_s: float) -> float:
    """Return the shift of times: whole weeks, so that the season ended within the last one."""
    return float((now_s - 2 * HOUR_S - max(one.at_s for one in shelf.baskets)) // WEEK_S * WEEK_S)


def _stage(
    given: Parameters, url: str, store_url: str, index: str, folder: Path, moved_s: float, shelf: Shelf
) -> Stage:
    accounts = accounts_of(sorted({one.household_id for one in shelf.baskets}), given.visits.shared, given.season.seed)
    twins = pairs_of(shelf, given.season.twins)
    return Stage(url, store_url, index, moved_s, folder, given, shelf, accounts, twins)


def _write_history(stage: Stage) -> None:
    rows = [
        (account, one.product_id, one.at_s + stage.moved_s)
        for one in stage.shelf.history
        if (account := stage.accounts.get(one.household_id)) is not None
    ]
    for pair in stage.twins:
        rows += [
            (twin.user_id, twin.product_id, stage.starts_s - ago_s) for twin in pair for ago_s in twin.bought_ago_s
        ]
    products = stage.shelf.corpus.products
    columns: dict[str, list[Any]] = {
        "timestamp": [datetime.fromtimestamp(at_s, UTC) for _, _, at_s in rows],
        "user_id": [name for name, _, _ in rows],
        "object_id": [product_id for _, product_id, _ in rows],
        **{name: [getattr(products[product_id], name) for _, product_id, _ in rows] for name in COUNTED},
    }
    pq.write_table(pa.table(columns), stage.history)


def toml_of(stage: Stage, variant: Variant) -> Path:
    """Write the settings of a variant, with its templates, and return the file."""
    folder = stage.folder / variant.name
    folder.mkdir()
    for name in ("default", "harmful"):
        shutil.copytree(packaged_templates() / "default", folder / "templates" / name)
        exploration = folder / "templates" / name / "exploration.json.j2"
        text = exploration.read_text("utf-8")
        if text.count(ORIGIN) != 1:
            raise RuntimeError(f"{exploration.name} has no {ORIGIN}, or several")
        exploration.write_text(text.replace(ORIGIN, SIMULATED_ORIGIN), "utf-8")
    (folder / "templates/harmful/boosts.json.j2").write_text(HARMFUL, "utf-8")
    season = stage.given.season
    policy = {"index": [stage.index], "date_field": "listed", **SHOP, **variant.policy}
    weeks_s = 20 * WEEK_S
    sections: dict[str, Mapping[str, Any]] = {
        "opensearch": {"hosts": [stage.url], "timeout_s": 60},
        "store": {"url": stage.store_url, "prefix": f"{stage.index}-{variant.name}"},
        "switches": {"shadow": variant.shadow},
        "experiment": {"holdout": season.holdout, "interleaved": season.interleaved, "salt": str(season.seed)},
        "budget": {"signals_ms": PATIENCE_MS, "cutoff_ms": PATIENCE_MS},
        "ingest": {"partitions": 4},
        # The store's clock is the real one, for which each event comes weeks late.
        "signals": {"session_ttl_s": weeks_s, "max_lag_s": weeks_s},
        f"policies.{POLICY}": {name: value for name, value in policy.items() if name != "fields"},
        **{f"policies.{POLICY}.fields.{name}": value for name, value in policy["fields"].items()},
    }
    path = folder / "rewriter.toml"
    lines = ['templates_dir = "templates"\n']
    for section, values in sections.items():
        lines.append(f"[{section}]\n" + "".join(f"{name} = {_toml(value)}\n" for name, value in values.items()))
    path.write_text("\n".join(lines), "utf-8")
    Settings.from_toml(path)
    return path


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


def rewriter_command(*arguments: object, codes: Sequence[int] = (0,)) -> str:
    """Run a command of the library in a process of its own, and return its output. Raises RuntimeError for another exit code."""
    command = [sys.executable, "-m", "rewriter", *map(str, arguments)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode not in codes:
        raise RuntimeError(f"rewriter {arguments[0]} ended with {ended.returncode}: {ended.stderr[-2_000:]}")
    return ended.stdout
