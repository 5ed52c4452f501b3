"""docs/tuning.md, step by step, on a slice of Complete Journey, with five trials."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rewriter.cli import app
from rewriter.demo.corpus import DEMO_PRODUCT_TYPES, MAPPINGS, load
from tests.conftest import MakeIndex

PAGE = Path(__file__).parents[2] / "docs/tuning.md"
TRIALS = os.environ.get("TUNING_TRIALS", "5")
"""With TUNING_TRIALS=60 the test also draws docs/tuning.svg, from the page that `tune` writes."""


SAMPLE = "returning.json"


@pytest.fixture
def indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: MakeIndex) -> str:
    """Return an index of Complete Journey's products; history, searches and search template are in the working directory."""
    monkeypatch.chdir(tmp_path)
    corpus = load(DEMO_PRODUCT_TYPES, popularity_until_week=42)
    known = [one for one in corpus.purchases if one.week <= 46]
    moved_s = time.time() - max(one.at_s for one in known)  # the corpus is of 2017, and counters of that age are 0
    queries = {key: (product.product_type or "").lower() for key, product in corpus.products.items()}
    with (tmp_path / "history.ndjson").open("w") as file:
        for one in known:
            product = corpus.products[one.product_id]
            row = {
                "timestamp": datetime.fromtimestamp(one.at_s + moved_s, UTC).isoformat(),
                "user_id": one.household_id,
                "object_id": one.product_id,
                "query": queries[one.product_id],
                "product_type": product.product_type,
                "manufacturer": product.manufacturer,
            }
            file.write(json.dumps(row) + "\n")
    last = {one.household_id: one.product_id for one in known}
    logged = [{"user_id": one, "query": queries[product_id]} for one, product_id in sorted(last.items())[:40]]
    (tmp_path / "searches.ndjson").write_text("".join(json.dumps(one) + "\n" for one in logged))
    popular = {"field_value_factor": {"field": "popularity", "modifier": "ln2p", "missing": 0}}
    search = {"query": {"function_score": {"query": {"match": {"title": "{{query}}"}}, **popular}}}
    (tmp_path / "search.mustache").write_text(json.dumps(search))
    return index(
        MAPPINGS["properties"], documents={key: product.document() for key, product in corpus.products.items()}
    )


@pytest.mark.full
def test_the_walk_through_runs(tmp_path: Path, indexed: str, opensearch_url: str, redis_url: str, prefix: str) -> None:
    outputs: dict[str, list[str]] = {}
    for step in steps():
        command, *arguments = shlex.split(step.replace("history.parquet", "history.ndjson"))
        if command != "rewriter":
            assert command in ("mkdir", "cp", "patch")
            subprocess.run([command, *arguments], check=True, capture_output=True)
            continue
        if arguments[0] == "init":
            arguments = [{"http://127.0.0.1:9200": opensearch_url, "shop": indexed}.get(one, one) for one in arguments]
            arguments += ["--store", redis_url]
        if arguments[0] == "tune":
            arguments[arguments.index("--trials") + 1] = TRIALS
            arguments += ["--spare-new", "0", "--max-boost", "3"]
        if arguments[0] in ("tune", "evaluate"):
            arguments += ["--searches", "300"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{step}\n{result.stdout}{result.stderr}"
        outputs.setdefault(arguments[0], []).append(result.stdout)
        if arguments[0] == "init":
            assert (tmp_path / "templates" / indexed / "samples" / SAMPLE).is_file()
        if arguments[0] == "check" and len(outputs["check"]) == 1:
            name_the_policy_and_weaken_it(tmp_path, prefix)
    assert all("Switch it on" in shown for shown in outputs["evaluate"])
    assert "Proposed." in outputs["tune"][0]
    assert (tmp_path / "tune.diff").read_text().startswith("# nDCG@10")
    assert (tmp_path / "tune.html").read_text().count("<circle") >= int(TRIALS)
    if "TUNING_TRIALS" in os.environ:
        PAGE.with_suffix(".svg").write_text(picture((tmp_path / "tune.html").read_text("utf-8")), "utf-8")
    assert "<html" in (tmp_path / "preview.html").read_text()
    assert "<html" in (tmp_path / "diff.html").read_text()
    assert [len(outputs[one]) for one in ("preview", "backfill", "diff", "check")] == [1, 1, 1, 3]


def name_the_policy_and_weaken_it(folder: Path, prefix: str) -> None:
    """Name policy and template set as the page does, and let five trials be enough for better settings."""
    (templates,) = (folder / "templates").iterdir()
    text = (folder / "rewriter.toml").read_text()
    text = text.replace(f"policies.{templates.name}", "policies.shop")
    text = text.replace(f'templates = "{templates.name}"', 'templates = "shop"')
    text = text.replace("[store]\n", f'[store]\nprefix = "{prefix}"\n')
    text = re.sub(r"^max_boost = .*$", "max_boost = 1.1", text, flags=re.MULTILINE)
    text = re.sub(r"^exploration_share = .*$", "exploration_share = 0", text, flags=re.MULTILINE)
    (folder / "rewriter.toml").write_text(text)
    templates.rename(templates.with_name("shop"))


def picture(page: str) -> str:
    """Return the plot of `tune --html` as a file of its own, light and dark."""
    style, plot = (page.partition(f"<{tag}")[2].partition(f"</{tag[:-1]}>")[0] for tag in ("style>", "svg "))
    kept = [
        line
        for line in style.splitlines()
        if line.startswith((":root", "@media(prefers", "svg{", "svg.trials text", ".quiet", ".dot"))
    ]
    paper = '<rect width="100%" height="100%" style="fill:var(--paper)"/>'
    attributes, _, drawn = plot.partition(">")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}>\n<style>{" ".join(kept)}</style>\n{paper}'
    return head + drawn.replace("<circle", "\n<circle") + "</svg>\n"


def steps() -> list[str]:
    """Return the commands of the page up to step 7: step 8 is of a service, and each of its commands has tests of its own."""
    before, _, _ = PAGE.read_text("utf-8").partition("\n## 8. ")
    return [line for block in re.findall(r"```sh\n(.*?)```", before, re.DOTALL) for line in block.splitlines()]
