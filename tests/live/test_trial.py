"""A draft on trial on a real server and a real store: named subjects see it, a broken one harms nobody, one command ends it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from rewriter import Reason, Report, Rewriter, Settings, Subject
from rewriter.decide.quarantine import FAILURES
from rewriter.shell.template_files import packaged_templates
from rewriter.signals.counters import Counters
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import Keys
from tests.conftest import MakeIndex
from tests.fakes import known, waited
from tests.live.shelf import MAPPING, MATCH, shoes
from tests.live.test_cli import run

ANN, BOB = Subject("ann"), Subject("bob")
DRAFT = (
    '[{% for a in affinities %}{"filter": {{ a.filter }}, "weight": 0.9}{% if not loop.last %},{% endif %}{% endfor %}]'
)
UNMAPPED = '[{"gauss": {"nowhere": {"origin": "now", "scale": "30d"}}, "weight": 0.2}]'


class Shop:
    """A rewriter whose subject ann is on trial, its draft, and its index."""

    def __init__(self, rewriter: Rewriter, index: str, draft: Path) -> None:
        self.rewriter, self.index, self.draft = rewriter, index, draft

    def search(self, subject: Subject, body: dict[str, Any] | None = None) -> tuple[Any, Report]:
        return self.rewriter.search_details(index=self.index, body=body or {"query": MATCH}, subject=subject)

    def rewrite(self, text: str) -> None:
        before = self.rewriter.status().trials.get("shop")
        self.draft.write_text(text)
        assert waited(lambda: self.rewriter.status().trials.get("shop") != before)


@pytest.fixture
def shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: MakeIndex, opensearch_url: str, redis_url: str, prefix: str
) -> Iterator[Shop]:
    monkeypatch.chdir(tmp_path)
    name = index(MAPPING, documents=shoes(60), shards=2)
    shutil.copytree(packaged_templates() / "default", tmp_path / "templates" / "live")
    draft = tmp_path / "templates" / "draft" / "boosts.json.j2"
    draft.parent.mkdir()
    draft.write_text(DRAFT)
    (tmp_path / "rewriter.toml").write_text(
        f"templates_dir = 'templates'\n[opensearch]\nhosts = '{opensearch_url}'\n"
        f"[store]\nurl = '{redis_url}'\nprefix = '{prefix}'\n[switches]\nfile = 'switches'\n[experiment]\nholdout = 0\n"
        "[budget]\nsignals_ms = 5000\ncutoff_ms = 20000\n"
        f"[policies.shop]\nindex = '{name}'\ntemplates = 'live'\nitem_repeat_share = 1.0\nmax_boost = 2.0\n"
        "[policies.shop.trial]\nversion = 'draft'\nsubjects = 'ann'\n"
    )
    store, liked = RedisStore(redis_url), Counters({("item", "41"): 9.0}, {"item": 9.0}, time.time(), time.time(), 3.0)
    for subject in (ANN, BOB):
        store.write(Keys(prefix).profile(str(subject.user_id)), liked, 600)
    settings = Settings.from_toml("rewriter.toml")
    with OpenSearch(opensearch_url, timeout=60) as client, Rewriter(client, store, settings) as rewriter:
        known(rewriter, name)
        assert waited(lambda: "shop" in rewriter.status().trials)
        yield Shop(rewriter, name, draft)
    store.close()


def factor(shop: Shop, answer: Any) -> float:
    """The factor of the liked item on a page with room for all hits."""
    plain = shop.rewriter.search(index=shop.index, body={"query": MATCH, "size": 60})
    base = {hit["_id"]: hit["_score"] for hit in plain["hits"]["hits"]}
    found = next(hit for hit in answer["hits"]["hits"] if hit["_id"] == "41")
    return float(found["_score"]) / float(base["41"])


def test_two_people_of_one_taste_see_two_versions_until_one_command_ends_it(shop: Shop) -> None:
    body = {"query": MATCH, "size": 50}
    answer, report = shop.search(ANN, body)
    assert (report.reason, report.trial, [boost.weight for boost in report.boosts]) == (
        Reason.PERSONALIZED,
        True,
        [0.9],
    )
    assert factor(shop, answer) == pytest.approx(1.9, rel=1e-5)
    other, live = shop.search(BOB, body)
    assert (live.reason, live.trial) == (Reason.PERSONALIZED, False)
    assert factor(shop, other) == pytest.approx(1.0 + live.boosts[0].weight, rel=1e-5)
    assert live.boosts[0].weight != 0.9
    assert waited(lambda: bool(shop.rewriter.status().fleet))
    ended = run("switch", "trial", "off", "--policy", "shop", "--wait", "10")
    assert ended.exit_code == 0, ended.stderr
    assert "in effect in 1 of 1 process" in ended.stderr
    _, after = shop.search(ANN, body)
    assert (after.template_version, after.trial) == (live.template_version, False)
    assert run("switch", "trial", "default", "--policy", "shop", "--wait", "10").exit_code == 0
    assert shop.search(ANN, body)[1].trial
    assert "ann" not in ended.output


def test_a_draft_that_the_server_rejects_costs_its_subject_boosts_for_a_moment_and_others_nothing(shop: Shop) -> None:
    shop.rewrite(UNMAPPED)
    bodies = [{"query": MATCH, "size": 10 + number} for number in range(FAILURES)]
    plain = [hit["_id"] for hit in shop.rewriter.search(index=shop.index, body={"query": MATCH})["hits"]["hits"]]
    for body in bodies:
        answer, report = shop.search(ANN, body)
        assert (report.reason, report.trial) == (Reason.SEARCH_REJECTED, True)
        assert [hit["_id"] for hit in answer["hits"]["hits"]][:10] == plain
        assert shop.search(BOB, body)[1].reason is Reason.PERSONALIZED
    _, report = shop.search(ANN, {"query": MATCH, "size": 10})
    assert (report.reason, report.trial) == (Reason.PERSONALIZED, False)  # the live version serves
    status = shop.rewriter.status()
    assert status.breaker["state"] == "closed"
    assert not [problem for problem in status.problems if "template" in problem or "shop" in problem]
    shop.rewrite(DRAFT + " ")
    assert shop.search(ANN)[1].trial


def test_check_names_what_the_index_refuses_of_a_draft(shop: Shop) -> None:
    shop.draft.write_text(UNMAPPED)
    result = run("check", "--json")
    assert result.exit_code == 2
    faults = json.loads(result.stdout)["faults"]
    assert [one for one in faults if "draft" in one["where"] and "the server refuses the rendered query" in one["what"]]
