"""docs/tuning.md, step by step, on a slice of Complete Journey, with five trials."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest
from opensearchpy import OpenSearch
from typer.testing import CliRunner

from rewriter.cli import app
from rewriter.demo.corpus import DEMO_PRODUCT_TYPES, MAPPINGS, load
from tests.conftest import MakeIndex

PAGE = Path(__file__).parents[2] / "docs/tuning.md"
TRIALS = "5"


@pytest.mark.full
def test_the_walk_through_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: MakeIndex, opensearch: OpenSearch, opensearch_url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = load(DEMO_PRODUCT_TYPES, popularity_until_week=42)
    name = index(
        MAPPINGS["properties"], documents={key: product.document() for key, product in corpus.products.items()}
    )
    with (tmp_path / "history.ndjson").open("w") as file:
        for one in corpus.purchases:
            if one.week <= 46:
                product = corpus.products[one.product_id]
                row = {
                    "timestamp": datetime.fromtimestamp(one.at_s, UTC).isoformat(),
                    "user_id": one.household_id,
                    "object_id": one.product_id,
                    "query": (product.product_type or "").lower(),
                    "product_type": product.product_type,
                    "manufacturer": product.manufacturer,
                }
                file.write(json.dumps(row) + "\n")
    (tmp_path / "search.mustache").write_text('{"query": {"match": {"title": "{{query}}"}}}')
    (tmp_path / "rewriter.toml").write_text(
        f"[opensearch]\nhosts = '{opensearch_url}'\n[signals]\nhorizon_s = 100000000\n[policies.shop]\nindex = '{name}'\n"
        "class_field = 'product_type'\nexploration_share = 0\nmax_boost = 1.2\n"
        "[policies.shop.fields.maker]\nof = ['product_type', 'manufacturer']\n"
    )
    steps = [
        line
        for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
        for line in block.splitlines()
    ]
    outputs = []
    for step in steps:
        command, *arguments = shlex.split(step.replace("history.parquet", "history.ndjson"))
        if command == "patch":
            assert (tmp_path / "tune.diff").read_text().startswith("# nDCG@10")
            continue
        if arguments[0] == "tune":
            arguments[arguments.index("--trials") + 1] = TRIALS
            arguments += ["--spare-new", "0", "--max-boost", "3"]
        result = CliRunner().invoke(app, [*arguments, "--searches", "300"])
        assert result.exit_code == 0, result.stdout + result.stderr
        outputs.append(result.stdout)
    evaluated, tuned, again = outputs
    assert "Switch it on" in evaluated
    assert "Proposed." in tuned
    assert "Switch it on" in again
    assert (tmp_path / "tune.html").read_text().count("<circle") >= int(TRIALS)
