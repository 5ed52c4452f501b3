"""Several `rewriter switch` at the same moment, on a real store: none loses what another one set."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rewriter.cli.switch.change import change
from rewriter.cli.switch.log import log_key, logged
from rewriter.cli.switch.target import targets_of
from rewriter.decide.switch_text import parse
from rewriter.settings import Settings
from rewriter.signals.redis_store import RedisStore

POLICIES = frozenset({f"p{number}" for number in range(16)})
NAMES = [f"{policy}.rollout" for policy in sorted(POLICIES)]


@pytest.mark.parametrize("before", ["", "# by hand\n", '{"elsewhere.shadow": true}'])
def test_switches_that_are_set_at_once_are_all_set(tmp_path: Path, redis_url: str, prefix: str, before: str) -> None:
    settings = Settings.model_validate(
        {
            "store": {"url": redis_url, "prefix": prefix},
            "switches": {"file": tmp_path / "switches"},
            "policies": {name: {"index": name} for name in POLICIES},
        }
    )
    (tmp_path / "switches").write_text(before)
    store = RedisStore(redis_url)
    store.write_text(f"{prefix}:switches", before)

    def command(name: str) -> None:
        own = RedisStore(redis_url)
        made = change(targets_of(settings, own), None, name, 0.25, POLICIES, "now ann")
        logged(own, log_key(settings), "now", "ann", name, 0.25, made.written)
        own.close()

    with ThreadPoolExecutor(len(NAMES)) as pool:
        list(pool.map(command, NAMES))
    texts = [(tmp_path / "switches").read_text(), store.read_text(f"{prefix}:switches") or ""]
    for text in texts:
        assert parse(text, "", POLICIES).values == dict.fromkeys(NAMES, 0.25)
        assert ("elsewhere.shadow" in text) is ("elsewhere.shadow" in before)
    assert ("# by hand" in texts[0]) is ("# by hand" in before)
    log = json.loads(store.read_text(log_key(settings)) or "")
    assert sorted(entry["switch"] for entry in log) == NAMES
    store.close()
