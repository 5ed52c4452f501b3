"""Records of runs: a folder with the hashes of all inputs, the figures, and each search's result.

    run.json         inputs, options, figures: the same inputs give the same bytes
    searches.ndjson  one line per search: pages and scores by variant, without words and people
    times.json       start and duration, which differ between runs

The folder's name is the hash of the inputs. It is written under a temporary name and renamed when it is whole.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rewriter.errors import ConfigurationError, Fault

FORMAT = 1
ID_CHARS = 12
LIBRARIES = ("rewriter", "ir-measures", "numpy", "duckdb", "opensearch-py", "jinja2")


def hashed(value: Any) -> str:
    """Return the SHA-256 of a value as JSON, in hex digits."""
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hex digits."""
    found = sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that the figures depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_run(
    folder: Path,
    inputs: Mapping[str, Any],
    figures: Mapping[str, Any],
    searches: Iterable[Mapping[str, Any]],
    times: Mapping[str, Any],
) -> Path:
    """Write a run and return its folder: `folder`/ID, with `-partial` if it was interrupted. Raises ConfigurationError."""
    name = hashed(inputs)[:ID_CHARS] + ("" if figures["complete"] else "-partial")
    target = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
        try:
            _write(
                made / "run.json",
                json.dumps({"format": FORMAT, "id": name, "inputs": inputs, "figures": figures}, indent=1),
            )
            _write(made / "searches.ndjson", "\n".join(json.dumps(one) for one in searches))
            _write(made / "times.json", json.dumps(times, indent=1))
            made.chmod(0o755)
            if target.exists():
                shutil.rmtree(target)
            os.replace(made, target)  # noqa: PTH105  Path.replace says nothing more
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise ConfigurationError([Fault(str(folder), f"cannot be written: {error.strerror}")]) from None
    return target


def read_run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the run and the searches of a folder. Raises ConfigurationError for another format or a damaged folder."""
    where = str(folder)
    try:
        run = json.loads((folder / "run.json").read_text("utf-8"))
        searches = [json.loads(line) for line in (folder / "searches.ndjson").read_text("utf-8").splitlines()]
    except OSError as error:
        what = f"is not a run: {error.strerror}"
        raise ConfigurationError([Fault(where, what, "a run is a folder that `rewriter evaluate` wrote")]) from None
    except (ValueError, RecursionError):
        raise ConfigurationError([Fault(where, "is damaged: not JSON", "run the evaluation again")]) from None
    if not isinstance(run, dict) or run.get("format") != FORMAT:
        found = run.get("format") if isinstance(run, dict) else None
        what = f"has format {found}, and this version reads format {FORMAT}"
        raise ConfigurationError([Fault(where, what, "run the evaluation again with this version")])
    if what := _damage(run, searches):
        raise ConfigurationError([Fault(where, f"is damaged: {what}", "run the evaluation again")])
    return run, searches


def _damage(run: Mapping[str, Any], searches: Sequence[Any]) -> str:
    """Return what a run lacks that a comparison reads, "" for a whole one."""
    measure = run["figures"].get("measure") if isinstance(run.get("figures"), Mapping) else None
    if not isinstance(measure, str) or not isinstance(run.get("inputs"), Mapping):
        return "run.json lacks its measure or its inputs"
    kinds: dict[str, Any] = {"search": str, "relevant": list, "person": (str, int), "pages": Mapping, measure: Mapping}
    for number, one in enumerate(searches, 1):
        if not isinstance(one, Mapping) or not all(isinstance(one.get(key), kind) for key, kind in kinds.items()):
            return f"line {number} of searches.ndjson is no search of this run"
    return ""


def differing(one: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> list[tuple[str, Any, Any]]:
    """Return the inputs in which two runs differ, as path and both values."""
    found: list[tuple[str, Any, Any]] = []
    for name in sorted({*one, *other}):
        left, right = one.get(name), other.get(name)
        where = f"{path}{name}"
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differing(left, right, f"{where}.")
        elif left != right:
            found.append((where, left, right))
    return found


def compared(
    one: tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]],
    other: tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    """Return the differences of two runs: inputs, and each variant's measure on the searches of both.

    Raises ConfigurationError if they have no judged search in common, or measure at different depths.
    """
    from rewriter.evaluate.intervals import paired  # noqa: PLC0415  an extra
    import numpy as np  # noqa: PLC0415  an extra  # isort: skip

    measures = [run["figures"]["measure"] for run, _ in (one, other)]
    if measures[0] != measures[1]:
        raise ConfigurationError([Fault("--compare", f"one run measured {measures[0]}, the other {measures[1]}")])
    (measure, _), seed = measures, int(one[0]["inputs"].get("seed", 1))
    before, after = ({(row["search"], tuple(row["relevant"])): row for row in rows} for _, rows in (one, other))
    common = [key for key in before if key in after]
    if not common:
        raise ConfigurationError([Fault("--compare", "the runs have no judged search in common")])
    people = [before[key]["person"] for key in common]
    ways = [way for way in before[common[0]][measure] if way in after[common[0]][measure]]
    found = []
    for way in ways:
        values = [np.array([rows[key][measure][way] for key in common], np.float64) for rows in (before, after)]
        change = paired(values[1], values[0], people, seed=seed)
        pages = sum(before[key]["pages"][way] != after[key]["pages"][way] for key in common)
        found.append(
            {"name": way, "before": round(change.base, 6), "after": round(change.value, 6),
             "low": round(change.low, 6), "high": round(change.high, 6), "pages_changed": pages}
        )  # fmt: skip
    return {
        "measure": measure,
        "searches": len(common),
        "left_out": len(before) + len(after) - 2 * len(common),
        "inputs": [{"what": what, "before": left, "after": right} for what, left, right in
                   differing(one[0]["inputs"], other[0]["inputs"])],
        "policies": found,
    }  # fmt: skip


def _write(path: Path, text: str) -> None:
    path.write_text(text + "\n" if text else "", "utf-8")
