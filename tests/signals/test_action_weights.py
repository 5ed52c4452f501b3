"""Action weights of a history: the mean weight of its events, and the weights under which an average event counts 1."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from rewriter.cli.action_weights import (
    DEFAULTS_SERVE,
    HEAVY,
    as_toml,
    chosen_weights,
    divided,
    own_weights,
)
from rewriter.errors import ConfigurationError
from rewriter.settings import DEFAULT_ACTION_WEIGHTS, SignalSettings
from tests.histories import T, added_up, left_out, plan

ROW = {"timestamp": T, "object_id": "p1", "user_id": "u1", "brand": "nike"}


def mean_of(folder: Path, actions: Sequence[str | None], **signals: object) -> float:
    """The mean weight of a history of one row for each action; None is a file without the column."""
    rows = [ROW if one is None else {**ROW, "action_name": one} for one in actions]
    path = folder / "h.ndjson"
    path.write_text("\n".join(map(json.dumps, rows)))
    return added_up(path, of=plan(**signals)).row_counts.mean_weight


@pytest.mark.parametrize(
    ("actions", "mean"),
    [
        (["purchase"] * 3, 8.0),
        ([None] * 3, 8.0),  # a row without an action is a purchase
        (["view"] * 3, 1.0),
        (["click"] * 3, 2.0),
        (["view"] * 6 + ["purchase"], 2.0),
        (["view"] * 30 + ["purchase"], 38 / 31),
        (["purchase", "Purchase", "buy", "buy"], 8.0),  # unknown actions are left out
        (["purchase", "dislike", "remove_from_cart"], 8.0),  # they take from counters what others added
        (["dislike"] * 2, 0.0),
        (["buy"] * 2, 0.0),
    ],
)
def test_the_mean_is_over_the_events_that_add_to_counters(
    tmp_path: Path, actions: Sequence[str | None], mean: float
) -> None:
    assert mean_of(tmp_path, actions) == pytest.approx(mean)


def test_own_weights_are_those_that_count(tmp_path: Path) -> None:
    own = {"purchase": 0.5, "rent": 3.0, "view": 0.0}
    assert mean_of(tmp_path, ["rent", "purchase", "view", "click"], action_weights=own) == pytest.approx(1.75)


def test_rows_that_do_not_count_do_not_weigh(tmp_path: Path) -> None:
    path = tmp_path / "h.ndjson"
    rows = [{**ROW, "action_name": "view"}, *({**ROW, "action_name": "purchase", "user_id": None} for _ in range(9))]
    path.write_text("\n".join(map(json.dumps, rows)))
    history = added_up(path)
    assert (history.row_counts.mean_weight, left_out(history)) == (1.0, {"no_person": 9})


@pytest.mark.parametrize("mean", [0.0, 0.2, 1.0, 1.99])
def test_light_histories_keep_the_defaults(mean: float) -> None:
    assert chosen_weights(None, mean, "counted in h") == DEFAULTS_SERVE


@pytest.mark.parametrize("mean", [HEAVY, 2.37, 7.0, 8.0])
def test_heavy_histories_are_divided_so_that_an_average_event_counts_one(mean: float) -> None:
    found = chosen_weights(None, mean, "counted in h")
    assert found.weights is not None
    assert {name: weight * mean for name, weight in found.weights.items()} == pytest.approx(
        DEFAULT_ACTION_WEIGHTS, rel=1e-3
    )
    assert SignalSettings(action_weights=dict(found.weights)).action_weights == found.weights
    assert f"an average event counts {mean:.3g} (counted in h)" in found.why
    assert "run `rewriter backfill`" in found.why


@pytest.mark.parametrize("mean", [0.0, 1.0, 16.0])
def test_own_weights_are_kept_whatever_the_history_holds(mean: float) -> None:
    own = {"purchase": 16.0, "rent": 4.0}
    found = chosen_weights(own, mean, "counted in h")
    assert found.weights == own
    assert ("purchase = 1.0, rent = 0.25" in found.why) == (mean >= HEAVY)


@pytest.mark.parametrize(
    "name", ["view", "add to cart", 'a "b"\\', "größe", "a\nb", "x.y", "1", "\u2028", "\U000e0001"]
)
def test_any_name_of_an_action_is_written_as_toml(name: str) -> None:
    weights = divided({name: -8.0, "other": 1 / 3, "none": 0.0}, 3.0)
    assert tomllib.loads(f"weights = {as_toml(weights)}")["weights"] == weights
    assert weights == {name: -2.667, "other": 0.1111, "none": 0.0}


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("[signals]\naction_weights = { buy = 2 }\n[policies.a]\nindex = 'a'", {"buy": 2.0}),
        ("[signals]\nhorizon_s = 9", None),
        ("[store]\nurl = 'redis://h'", None),
        ("[signals]\naction_weights = { buy = 'two' }", None),
        ("no TOML", None),
        (None, None),
    ],
)
def test_a_file_that_can_be_read_sets_weights(
    tmp_path: Path, text: str | None, weights: Mapping[str, float] | None
) -> None:
    toml = tmp_path / "rewriter.toml"
    if text is not None:
        toml.write_text(text)
    assert own_weights(toml) == weights


def test_the_environment_sets_weights_and_its_faults_are_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWRITER_SIGNALS__ACTION_WEIGHTS", '{"buy": 2}')
    assert own_weights(tmp_path / "none.toml") == {"buy": 2.0}
    monkeypatch.setenv("REWRITER_SIGNALS__ACTION_WEIGHTS", '{"buy": "two"}')
    with pytest.raises(ConfigurationError, match="REWRITER_SIGNALS__ACTION_WEIGHTS"):
        own_weights(tmp_path / "none.toml")
