"""A generated catalogue on real servers, end to end: `rewriter init`, `rewriter backfill`, then searches and their nDCG@10."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from opensearchpy import OpenSearch, helpers
from typer.testing import CliRunner

from bench.made_catalogues import Made, Question
from bench.ndcg_table import ndcg
from rewriter import Reason, Rewriter, Subject
from rewriter.cli import app

EXPECTED = frozenset({Reason.PERSONALIZED, Reason.NO_SIGNALS, Reason.NO_HITS, Reason.NO_RELEVANCE})
RESAMPLES = 2_000
DEPTH = 10
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean over people of nDCG@10, of the baseline and of another ranking, and the difference with its 95 % interval.

    personalized: the share of the searches that were personalized; functions: the median number of functions sent.
    """

    base: float
    other: float
    low: float
    high: float
    people: int
    personalized: float
    functions: float

    @property
    def gain(self) -> float:
        """The mean difference."""
        return self.other - self.base


@contextmanager
def indexed(client: OpenSearch, index: str, made: Made) -> Iterator[str]:
    """The catalogue as an index that the block's end removes."""
    settings = {"number_of_shards": 1, "number_of_replicas": 0}
    client.indices.create(index=index, body={"settings": settings, "mappings": {"properties": made.properties}})
    try:
        actions = ({"_index": index, "_id": one, "_source": source} for one, source in made.documents.items())
        helpers.bulk(client, actions, refresh=True)
        yield index
    finally:
        client.indices.delete(index=index, ignore_unavailable=True)


def write_history(made: Made, path: Path) -> Path:
    """Write the history in the format of `rewriter backfill`."""
    rows = (
        {"user_id": one.person, "object_id": one.item, "action_name": "purchase", "timestamp": _time(one.at_s)}
        for one in made.history
    )
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")


def run(*arguments: str) -> str:
    """Run a command of `rewriter`; return its output. Raises RuntimeError if it fails."""
    done = CliRunner().invoke(app, arguments)
    if done.exit_code:
        raise RuntimeError(f"rewriter {' '.join(arguments)}: {done.exit_code}: {done.output} {done.exception}")
    return done.output


def untuned(folder: Path, url: str, store_url: str, *lines: str) -> Path:
    """Write settings that only name the servers, so that the default policy serves. Return the file.

    lines: settings in which the default policy differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    toml = folder / "rewriter.toml"
    own = ["[policies.default]", 'index = "*"', *lines] if lines else []
    toml.write_text("\n".join(["[opensearch]", f'hosts = ["{url}"]', "[store]", f'url = "{store_url}"', *own]), "utf-8")
    return toml


def initialized(folder: Path, url: str, store_url: str, index: str, *options: str) -> tuple[Path, str]:
    """Run `rewriter init`; return its settings file, and the name of the template set that it chose."""
    output = run("init", url, index, "--to", str(folder), "--store", store_url, *options)
    return folder / "rewriter.toml", output.partition("template set ")[2].partition(":")[0]


@dataclass(frozen=True, slots=True)
class Ranked:
    """The ids on the page of each question; the share of the pages that were personalized, and the median number of functions."""

    pages: list[list[str]]
    personalized: float
    functions: float


def plain(
    client: OpenSearch, index: str, made: Made, questions: Sequence[Question], *, is_flat: bool = False
) -> Ranked:
    """Return the page of each question, without the library. is_flat: category pages, whose hits score alike."""
    pages = [_ids(client.search(index=index, body=_body(made, one, is_flat=is_flat))) for one in questions]
    return Ranked(pages, 0.0, 0.0)


def personalized(
    toml: Path, index: str, made: Made, questions: Sequence[Question], seed: int, *, is_flat: bool = False
) -> Ranked:
    """Return the page of each question. Another person searched each query before, so that its classes are known."""
    pages, counts, functions = list[list[str]](), 0, list[int]()
    with patch("rewriter.shell.job.randbits", Random(seed).getrandbits), Rewriter.from_settings(toml) as rewriter:
        if not rewriter.wait_ready(60.0, index=index):
            raise RuntimeError(f"not ready: {rewriter.status().missing}")
        first = {one.words: one for one in questions}
        for number, question in enumerate([*first.values(), *questions]):
            response, report = rewriter.search_details(
                index=index, body=_body(made, question, is_flat=is_flat), subject=Subject(question.person)
            )
            if report.reason not in EXPECTED or report.errors:
                raise RuntimeError(f"{report.reason} {report.detail} {', '.join(report.errors)}")
            if number >= len(first):
                pages.append(_ids(response))
                functions.append(len(report.boosts))
                counts += report.reason is Reason.PERSONALIZED
    return Ranked(pages, counts / len(questions), median(functions))


def _body(made: Made, question: Question, *, is_flat: bool) -> dict[str, Any]:
    query = made.category_page(question.words) if is_flat else made.query(question.words)
    return {"query": query, "size": DEPTH, "_source": False}


def _ids(response: Mapping[str, Any]) -> list[str]:
    return [hit["_id"] for hit in response["hits"]["hits"]]


def compared(questions: Sequence[Question], base: Ranked, other: Ranked, seed: int) -> Difference:
    """Return the paired difference of two rankings, by bootstrap over people."""
    relevant = [one.relevant for one in questions]
    measured = zip(ndcg(base.pages, relevant), ndcg(other.pages, relevant), strict=True)
    of_people: dict[str, list[tuple[float, float]]] = {}
    for question, values in zip(questions, measured, strict=True):
        of_people.setdefault(question.person, []).append(values)
    means = np.array([np.mean(values, axis=0) for values in of_people.values()])
    differences = means[:, 1] - means[:, 0]
    drawn = np.random.default_rng(seed).integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), (0.025, 0.975))
    before, after = means.mean(axis=0)
    return Difference(
        float(before), float(after), float(low), float(high), len(means), other.personalized, other.functions
    )
