"""The figures of a diff, against their definitions worked out the long way."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewriter import ConfigurationError
from rewriter.cli.diff.comparison import P, Pair, Served, figures, percentile, products
from rewriter.cli.diff.logged import read_logged
from rewriter.cli.output import write_whole
from rewriter.measures.bubble import rank_biased_overlap

RANKINGS = st.lists(st.integers(0, 14), max_size=10, unique=True)


def extrapolated(one: list[int], other: list[int], p: float) -> float:
    """RBO_ext by its meaning: agreement at each depth, weighted (1 − p) p^(d − 1), that at the end going on for ever."""
    depth = min(len(one), len(other))
    if depth == 0:
        return float(len(one) == len(other))
    agreement = [len(set(one[:d]) & set(other[:d])) / d for d in range(1, depth + 1)]
    endless = [*agreement, *[agreement[-1]] * 2_000]
    return (1.0 - p) * math.fsum(share * p**at for at, share in enumerate(endless))


@settings(max_examples=300, deadline=None)
@given(one=RANKINGS, other=RANKINGS, p=st.sampled_from([0.5, 0.9, 0.98]))
def test_rank_biased_overlap_is_the_weighted_agreement_of_all_depths(
    one: list[int], other: list[int], p: float
) -> None:
    assert rank_biased_overlap(one, other, p) == pytest.approx(extrapolated(one, other, p), abs=1e-9)


def test_rank_biased_overlap_of_known_lists() -> None:
    """Worked out by hand: a swap at the top leaves agreement 0 at depth 1 and 1 from depth 2 on, so p of the weight."""
    assert rank_biased_overlap("abcdef", "bacdef", 0.9) == pytest.approx(0.9)
    assert rank_biased_overlap("abcdef", "abcdfe", 0.9) == pytest.approx(1 - 0.1 * 0.9**4 * (1 / 5))
    assert rank_biased_overlap("abc", "xyz", 0.9) == 0.0


def pair(line: int, before: str, after: str, person: int = 0, **of_b: Any) -> Pair:
    titles = {one: one.upper() for one in before + after}
    return Pair(
        line,
        "",
        person,
        Served(tuple(before), "personalized", 2, 4, 1),
        Served(tuple(after), "personalized", 3, **of_b),
        titles,
    )


def test_figures_of_three_pages() -> None:
    pairs = [pair(1, "abc", "abc"), pair(2, "abc", "abd", 1), pair(4, "abc", "cba", 1, boosted=6, at_limit=3)]
    found = figures(pairs, 3)
    assert (found["compared"], found["changed"], found["changed_share"]) == (3, 2, pytest.approx(2 / 3))
    assert found["overlap"] == {
        "mean": pytest.approx((1 + 2 / 3 + 1) / 3),
        "p10": pytest.approx(2 / 3),
        "least": pytest.approx(2 / 3),
    }
    assert found["rbo"]["p"] == P
    assert [page["line"] for page in found["pages"]] == sorted(
        [2, 4], key=lambda line: pairs[[1, 2, 4].index(line)].rbo
    )
    assert found["people"] == [
        {"line": 2, "searches": 2, "changed": 2, "rbo": pytest.approx((pairs[1].rbo + pairs[2].rbo) / 2)}
    ]
    a, b = found["versions"]["a"], found["versions"]["b"]
    assert (a["boosted_hits"], a["at_limit"], a["at_limit_share"], a["functions"]) == (12, 3, 0.25, 2.0)
    assert (b["boosted_hits"], b["at_limit"], b["at_limit_share"], b["functions"]) == (6, 3, 0.5, 3.0)
    assert b["leg_ms"] is None


def test_products_move_by_ranks_in_sum_and_one_that_leaves_falls_below_the_page() -> None:
    found = products([pair(1, "abc", "abd"), pair(2, "abc", "cba"), pair(3, "abc", "cba")], 3)
    up = [(row["id"], row["ranks"], row["pages"], row["entered"], row["left"]) for row in found["up"]]
    down = [(row["id"], row["ranks"], row["pages"], row["entered"], row["left"]) for row in found["down"]]
    assert up == [("c", 4 - 1, 3, 0, 1), ("d", 1, 1, 1, 0)]
    assert down == [("a", -4, 2, 0, 0)]
    assert [row["title"] for row in found["up"]] == ["C", "D"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(RANKINGS, RANKINGS), min_size=1, max_size=6))
def test_what_products_gain_others_lose(lists: list[tuple[list[int], list[int]]]) -> None:
    """On pages that are full, the ranks that are won are lost by others."""
    full = [
        ([f"x{n}" for n in one + list(range(20, 30))][:5], [f"x{n}" for n in other + list(range(20, 30))][:5])
        for one, other in lists
    ]
    pairs = [Pair(n, "", 0, Served(tuple(one), ""), Served(tuple(other), "")) for n, (one, other) in enumerate(full)]
    gains: dict[str, int] = {}
    for one in pairs:
        for product in {*one.a.ids, *one.b.ids}:
            before = one.a.ids.index(product) if product in one.a.ids else 5
            after = one.b.ids.index(product) if product in one.b.ids else 5
            gains[product] = gains.get(product, 0) + before - after
    found = products(pairs, 5)
    shown = {row["id"]: row["ranks"] for row in (*found["up"], *found["down"])}
    assert shown.items() <= gains.items()
    assert sum(gains.values()) == 0


def test_percentiles_are_values_of_the_list() -> None:
    assert [percentile([3.0, 1.0, 2.0], share) for share in (0.0, 0.1, 0.5, 0.95, 1.0)] == [1.0, 1.0, 2.0, 3.0, 3.0]


def test_a_file_is_read_whatever_its_encoding(tmp_path: Path) -> None:
    path = tmp_path / "searches.ndjson"
    text = '\n{"user_id": "ü", "segments": ["vip"], "body": {"query": {"match_all": {}}}, "relevant": ["p1"], "timestamp": 1}\r\n'
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(text.encode(encoding))
        (one,) = read_logged(path, None)
        assert (one.line, one.subject.user_id, one.subject.segments, one.first_page) == (2, "ü", ("vip",), True)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("[1]", "is not a JSON object"),
        ("[" * 100_000, "is not a JSON object"),
        ('{"user_id": "a"}', "has no `body`"),
        ('{"user_id": "a", "query": "x"}', "has no `body` (with `query` alone, give --body"),
        ('{"user_id": "a", "body": []}', "`body` is not a search body"),
        ('{"user_id": "a", "body": {"from": "x"}}', "`body` is not a search body"),
        ('{"body": {}}', "names nobody"),
        ('{"user_id": 5, "body": {}}', "its subject is wrong"),
        ('{"user_id": "a", "body": {}, "index": 5}', "`query` and `index` are texts"),
        ('{"user_id": "a", "body": {}, "indx": "p"}', "unknown keys: indx"),
        ("", "holds no search"),
    ],
)
def test_a_logged_search_that_is_wrong_is_named(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "searches.ndjson"
    path.write_text(line)
    with pytest.raises(ConfigurationError, match=r"searches\.ndjson") as raised:
        read_logged(path, None)
    assert fault in str(raised.value)


def test_with_a_search_template_the_words_are_missing_too(tmp_path: Path) -> None:
    path = tmp_path / "searches.ndjson"
    path.write_text('{"user_id": "a"}')
    with pytest.raises(ConfigurationError, match="has neither `query` nor `body`"):
        read_logged(path, lambda words: {"query": {"match": {"title": words}}})


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_whole(path, "one")
    assert (path.read_text(), oct(path.stat().st_mode & 0o400)) == ("one", "0o400")
    write_whole(path, "two \ud800")
    assert path.read_text() == r"two \ud800", "what is no UTF-8 is escaped"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ConfigurationError, match="No such file"):
        write_whole(tmp_path / "away" / "page.html", "one")
