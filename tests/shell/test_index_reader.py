"""The reading of index facts: for expressions that are searched, within a bound per second, with faults reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from opensearchpy.exceptions import AuthorizationException, NotFoundError, TransportError

from rewriter import Settings
from rewriter.core import MAX_WANTED_FIELDS, Core
from rewriter.expression import MAX_EXPRESSIONS, Expression, Searched, expression_of
from rewriter.shell.background.index_reader import (
    BURST,
    IDLE_S,
    INDICES_PERIOD_S,
    LONGEST_WAIT_S,
    MAX_STALE,
    PERIOD_S,
    READS_PER_S,
    RETRY_S,
    IndexReader,
)
from rewriter.shell.background.sources import BackgroundStep, GetMapping, GetSettings
from rewriter.shell.drive import drive
from rewriter.shell.legs import failing_as
from tests.arguments import SEAM


class Cluster:
    """Indices by name, aliases, and a reader on a clock that is moved by hand."""

    def __init__(self, **policy: Any) -> None:
        self.core = Core(
            Settings.model_validate({"policies": {"shop": {"index": "shop-*", "fields": {"brand": {}}} | policy}}), {}
        )
        self.now_s = 1_000.0
        self.reader = IndexReader(self.core, lambda: self.now_s)
        self.indices: dict[str, dict[str, Any]] = {"shop-1": {"brand": {"type": "keyword"}}}
        self.aliases: dict[str, list[str]] = {}
        self.fails: dict[str, Exception] = {}
        self.asked: list[Mapping[str, Any]] = []

    def round(self, after_s: float = 0.1) -> None:
        self.now_s += after_s
        drive(self.reader.round(), self._answer)

    def search(self, *indices: str, **params: Any) -> str:
        expression = expression_of(indices, params)
        self.core.searched.note(expression, self.now_s)
        return expression.key

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.core.snapshot.facts

    def _answer(self, step: BackgroundStep) -> Any:
        with failing_as(SEAM):
            return self._found(step)

    def _found(self, step: BackgroundStep) -> Any:
        assert isinstance(step, GetMapping | GetSettings)
        arguments = {**step.params, "index": step.index}
        self.asked.append(arguments)
        if error := self.fails.get(arguments["index"]):
            raise error
        found = []
        for name in arguments["index"].split(","):
            if "*" in name:
                found += [one for one in self.indices if one.startswith(name.rstrip("*"))]
            elif name in self.indices or name in self.aliases:
                found += self.aliases.get(name, [name])
            elif arguments["ignore_unavailable"] == "false":
                raise NotFoundError(404, "index_not_found_exception", {})
        if isinstance(step, GetSettings):
            return {one: {"settings": {"index.number_of_replicas": "0"}} for one in found}
        return {one: {"mappings": {"properties": self.indices[one]}} for one in found if self.indices[one]}


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_the_indices_behind_a_policy_s_pattern_are_known_before_anybody_searches(cluster: Cluster) -> None:
    cluster.round()
    assert "shop-1" in cluster.facts


def test_an_expression_is_read_as_it_is_searched(cluster: Cluster) -> None:
    cluster.round()
    cluster.asked.clear()
    key = cluster.search("shop-1", "shop-gone", ignore_unavailable=True, expand_wildcards=["open", "hidden"])
    cluster.round()
    assert key in cluster.facts
    settings, mapping = cluster.asked
    assert (settings["index"], settings["ignore_unavailable"]) == ("shop-1,shop-gone", "true")
    assert settings["expand_wildcards"] == "open,hidden"
    assert mapping["filter_path"] == "*.mappings.properties._id,*.mappings.properties.brand"
    assert cluster.reader.problems == []


def test_more_than_a_thousand_expressions_are_all_known_within_the_bound(cluster: Cluster) -> None:
    keys = []
    for number in range(1_200):
        cluster.aliases[f"shop-a{number}"] = ["shop-1"]
        keys.append(cluster.search(f"shop-a{number}"))
    asked, started_s = 0, cluster.now_s
    while not all(key in cluster.facts for key in keys):
        cluster.round()
        assert len(cluster.asked) // 2 <= BURST + READS_PER_S * (cluster.now_s - started_s) + 1
        assert cluster.now_s - started_s < 2 * 1_200 / READS_PER_S
        asked += 1
    assert len({id(cluster.facts[key]) for key in keys}) == 1  # equal facts are kept once


def test_who_is_searched_again_and_again_stays_known_and_who_is_not_goes() -> None:
    searched = Searched(limit=10)
    for number in range(1_000):
        searched.note(Expression((f"i{number}",)), number)
        searched.note(Expression(("often",)), number)
    assert len(searched) == 10
    assert searched.last_s(Expression(("often",))) == 999
    assert searched.last_s(Expression(("i1",))) is None
    assert len(searched.take_new()) <= 10
    assert MAX_EXPRESSIONS >= 1_000


def test_facts_of_an_expression_that_fell_out_are_forgotten(cluster: Cluster) -> None:
    cluster.core.searched = Searched(limit=2)
    for number in range(5):
        cluster.aliases[f"shop-a{number}"] = ["shop-1"]
        key = cluster.search(f"shop-a{number}")
        cluster.round(1.0)
        assert key in cluster.facts
    cluster.round(PERIOD_S)
    cluster.round(PERIOD_S)
    assert {key for key in cluster.facts if key.startswith("shop-a")} == {"shop-a3", "shop-a4"}


def test_more_new_expressions_than_can_be_read_leave_nothing_behind(cluster: Cluster) -> None:
    cluster.core.searched = Searched(limit=20)
    for number in range(400):
        for one in range(50):  # a second's, of which a few are read, and all fall out before they are due again
            cluster.aliases[f"shop-a{number}-{one}"] = ["shop-1"]
            cluster.search(f"shop-a{number}-{one}")
        cluster.round(1.0)
    reader = cluster.reader
    assert len(cluster.facts) <= 20 + BURST
    assert len(reader._planned) <= 20 + 2 * BURST
    assert len(reader._due) <= MAX_STALE + 3 * (20 + 2 * BURST)


def test_an_expression_that_falls_out_and_comes_back_is_read_no_oftener(cluster: Cluster) -> None:
    cluster.core.searched = Searched(limit=2)
    names = [f"shop-a{number}" for number in range(3)]
    for name in names:
        cluster.aliases[name] = ["shop-1"]
    for _ in range(200):
        for name in names:
            cluster.search(name)
        cluster.round(0.01)
    cluster.core.searched = Searched()
    for name in names:
        cluster.search(name)
    cluster.round(60.0)
    cluster.asked.clear()
    for _ in range(int(4 * PERIOD_S)):
        cluster.round(1.0)
    assert {name: sum(one["index"] == name for one in cluster.asked) // 2 for name in names} == dict.fromkeys(names, 4)


def test_what_changes_in_the_cluster_is_seen(cluster: Cluster) -> None:
    key = cluster.search("shop-1")
    cluster.round()
    assert set(cluster.core.snapshot.fields_on[key]) == {"item", "brand"}
    cluster.indices["shop-1"] = {"brand": {"type": "date"}}
    cluster.round(PERIOD_S)
    assert set(cluster.core.snapshot.fields_on[key]) == {"item"}
    assert any("brand: is a date" in text for text in cluster.reader.dead["shop"])


def test_a_role_without_rights_is_a_problem_that_names_them(cluster: Cluster) -> None:
    info = {
        "error": {
            "root_cause": [
                {"type": "security_exception", "reason": "no permissions for [indices:monitor] and User [name=anna]"}
            ]
        }
    }
    cluster.fails["shop-1"] = AuthorizationException(403, "security_exception", info)
    key = cluster.search("shop-1")
    cluster.fails["shop-*"] = cluster.fails["shop-1"]
    cluster.round()
    cluster.round(RETRY_S)
    assert "403" in cluster.core.snapshot.unreadable[key]
    (problem,) = cluster.reader.problems
    assert "indices:admin/mappings/get" in problem
    (line,) = cluster.core.journal.drain(cluster.now_s)
    assert "security_exception" in line.text
    assert "anna" not in line.text
    cluster.fails.clear()
    cluster.round(PERIOD_S)
    assert cluster.reader.problems == []
    assert key in cluster.facts
    assert "are read" in cluster.core.journal.drain(cluster.now_s)[0].text


def test_what_nobody_searches_any_more_is_no_problem_for_good(cluster: Cluster) -> None:
    cluster.search("shop-9")
    cluster.fails["shop-9"] = TransportError("N/A", "refused", {})
    cluster.round()
    assert len(cluster.reader.problems) == 1
    cluster.round(IDLE_S + 1.0)
    cluster.round(IDLE_S + 1.0)
    assert cluster.reader.problems == []


def test_an_index_that_is_gone_is_no_problem_where_no_policy_names_it(cluster: Cluster) -> None:
    key = cluster.search("shop-1")
    cluster.round()
    del cluster.indices["shop-1"]
    for _ in range(3):
        cluster.round(PERIOD_S)
    assert key not in cluster.facts
    assert cluster.reader.problems == []
    named = Cluster(index="shop-7")
    named.round()
    assert "shop-7" in named.reader.problems[0]


def test_the_last_facts_serve_while_the_cluster_does_not_answer(cluster: Cluster) -> None:
    key = cluster.search("shop-1")
    cluster.round()
    cluster.fails["shop-1"] = TransportError("N/A", "refused", {})
    cluster.round(PERIOD_S)
    assert key in cluster.facts
    assert len(cluster.reader.problems) == 1


@pytest.mark.parametrize(
    "odd",
    [
        {"shop-1": {}},
        {"shop-1": {"settings": None}},
        [],
        None,
        {"shop-1": {"settings": {"index.max_result_window": "x"}}},
    ],
)
def test_an_answer_of_an_odd_form_is_said(cluster: Cluster, odd: Any) -> None:
    key = cluster.search("shop-1")
    drive(cluster.reader.round(), lambda step: odd if isinstance(step, GetSettings) else {})
    assert key in cluster.core.snapshot.unreadable


def test_an_expression_of_another_cluster_is_not_asked_for(cluster: Cluster) -> None:
    cluster.round()
    cluster.asked.clear()
    for name in ("eu:shop-1", "shop-*,eu:*"):
        cluster.search(*name.split(","))
    cluster.round()
    assert not any(":" in asked["index"] for asked in cluster.asked)


def test_aliases_of_fields_are_followed(cluster: Cluster) -> None:
    cluster.indices["shop-1"] = {
        "brand": {"type": "alias", "path": "maker.name"},
        "maker": {"properties": {"name": {"type": "keyword"}}},
    }
    key = cluster.search("shop-1")
    cluster.round()
    assert cluster.facts[key].fields["brand"] == "keyword"
    assert any("maker" in asked.get("filter_path", "") for asked in cluster.asked)


def test_a_round_that_ends_in_the_middle_is_taken_up_by_the_next(cluster: Cluster) -> None:
    key = cluster.search("shop-1")
    cut_off = cluster.reader.round()
    next(cut_off)
    other = cluster.reader.round()
    assert list(other) == []  # one at a time
    cut_off.close()
    cluster.round()
    assert key in cluster.facts


def test_a_child_after_a_fork_begins_with_what_its_parent_knew(cluster: Cluster) -> None:
    key = cluster.search("shop-1")
    cluster.round()
    child = Core(cluster.core.settings, {}, before=cluster.core)
    assert key in child.snapshot.facts
    reader = IndexReader(child, lambda: cluster.now_s)
    drive(reader.round(), lambda _: {})
    assert key in child.snapshot.facts


def test_fields_that_queries_name_are_read_too_within_a_bound(cluster: Cluster) -> None:
    """Their analyzers decide whether a query has a gate. Names come from callers: none reaches the URL but as a plain name."""
    cluster.indices["shop-1"]["title"] = {"type": "text", "analyzer": "english"}
    names = ("title", "a,b", "*", "secret.*", "", "x" * 65, *(f"field{at}" for at in range(100)))
    cluster.core.want_fields("shop", names)
    key = cluster.search("shop-1")
    cluster.round()
    assert cluster.facts[key].analyzers == {"title": "english None"}
    mapping = next(one for one in cluster.asked if "filter_path" in one)
    assert len(mapping["filter_path"].split(",")) <= 2 + MAX_WANTED_FIELDS
    assert "secret" not in mapping["filter_path"]


class Sleeper:
    """Counts how often it is woken."""

    woken = 0

    def wake(self) -> None:
        self.woken += 1


def test_a_reader_sleeps_until_facts_are_due_and_is_woken_by_a_new_expression() -> None:
    cluster, sleeper = Cluster(), Sleeper()
    cluster.core.searched.wakes(sleeper)
    assert cluster.reader.wait_s == INDICES_PERIOD_S  # the policy's own indices are not read yet
    cluster.round()
    assert cluster.reader.wait_s == LONGEST_WAIT_S
    cluster.search("shop-1")
    cluster.search("shop-1")
    assert (sleeper.woken, cluster.reader.wait_s) == (1, INDICES_PERIOD_S)
    cluster.round()
    assert cluster.reader.wait_s == LONGEST_WAIT_S
    cluster.now_s += PERIOD_S - 0.5
    assert cluster.reader.wait_s == pytest.approx(0.4, abs=0.11)
    cluster.now_s += 10.0
    assert cluster.reader.wait_s == INDICES_PERIOD_S
    del sleeper
    cluster.search("shop-2")  # a reader that is gone is not woken


@pytest.mark.parametrize("name", ["eu:shop-1", "eu:shop-*", "*:shop-1"])
def test_a_policy_s_index_of_another_cluster_is_not_asked_for_and_not_waited_for(name: str) -> None:
    cluster = Cluster(index=["shop-1", name])
    for _ in range(10):
        cluster.search(name)
        cluster.round(RETRY_S)
    assert cluster.reader.knows_own
    assert not [one for one in cluster.asked if ":" in one["index"]]
    assert len(cluster.reader.problems) == (name == "eu:shop-1")


@pytest.mark.parametrize(
    ("indices", "remote"),
    [
        (("shop", "eu:shop"), True), (("*:shop",), True), (("-eu:*", "shop"), True), (("eu:shop::data",), True),
        (("shop::data",), False), (("<shop-{now/d{HH:mm}}>",), False), (("shop",), False),
    ],
)  # fmt: skip
def test_which_expressions_name_another_cluster(indices: tuple[str, ...], remote: bool) -> None:
    assert Expression(indices).remote is remote
