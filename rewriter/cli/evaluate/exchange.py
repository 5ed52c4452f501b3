"""The exchange of judged searches with other tools: files that `rewriter evaluate` reads with --import and writes with --export."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rewriter.boost.body import NAME_PREFIX
from rewriter.cli.init.output_files import put, staged
from rewriter.cli.output import print_line
from rewriter.client.seam import Search
from rewriter.encodings import decoded
from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate import quepid, workbench
from rewriter.evaluate.judged import JudgedSearch
from rewriter.evaluate.ratings import Ratings, read_csv, searches_of
from rewriter.plural import count_of

if TYPE_CHECKING:
    from rewriter.evaluate.answers import Answered, Send

Imported = Literal["trec", "srw", "quepid"]
Exported = Literal["srw", "quepid"]


def read_ratings(form: Imported, path: Path, queries: Path | None) -> tuple[list[JudgedSearch], Mapping[str, int]]:
    """Return the judged searches of a workbench's judgments, and the number left out by reason.

    queries: a query set of the Search Relevance Workbench, whose custom fields `person` and `segment` name each search's subject.
    Raises ConfigurationError with every fault, or if no search is left.
    """
    text = _text(path)
    people: Mapping[str, Sequence[tuple[str, str]]] = {}
    if form == "quepid":
        ratings = quepid.read(text, str(path))
    else:
        is_json = text.lstrip().startswith(("{", "["))
        ratings = workbench.read_judgments(text, str(path)) if is_json else read_csv(text, str(path))
        if queries is not None:
            people = workbench.read_query_set(_text(queries), str(queries))
            ratings.left_out.update(workbench.unjudged(ratings, people))
    found, left_out = searches_of(ratings, people)
    if not found:
        why = "; ".join(f"{name} ({count:,})" for name, count in left_out.items()) or "it is empty"
        raise ConfigurationError([Fault(str(path), f"holds no judged search: {why}")])
    return found, left_out


def write_export(
    form: Exported,
    searches: Sequence[JudgedSearch],
    template: Path | None,
    index: str,
    salt: str,
    folder: Path,
    clauses: Mapping[str, Mapping[str, str]],
) -> None:
    """Write the files of an export into a folder, all of them or none, and print their content and the omissions.

    clauses: by policy and search_id, the clause that personalizes a search.
    """
    if form == "srw":
        files, ratings = workbench.exported(searches, _text(template) if template else None, index, salt, clauses)
        if template is None:
            print_line("note: no search configuration is written: give --body, the search template in Mustache")
        elif not clauses:
            print_line("note: the plain search is the only configuration: with --from, each policy has one too")
        elif len([name for name in files if name.startswith("search_conf")]) <= len(clauses):
            print_line("note: a template that rescores by itself has no configuration with boosts")
    else:
        files, ratings = quepid.exported(searches)
    _say(ratings)
    if not ratings.grades:
        raise ConfigurationError([Fault("--export", "nothing to export: no search has words")])
    with staged(folder, files) as stage:
        for path in put(stage, folder, files, force=True):
            print_line(f"written: {path}")


class Capturing:
    """A sender that keeps the clause of each personalized search, by the search_id in its header TAG."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.clauses: dict[str, str] = {}

    def __call__(self, searches: Sequence[Search]) -> Sequence[Answered]:
        """Send searches without their tags."""
        for one in searches:
            tag, rescores = one.headers.get(TAG), one.body.get("rescore")
            if tag is not None and isinstance(rescores, list) and one.body.get("from") == 0:
                self.clauses[tag] = json.dumps(_unnamed(rescores[-1]), ensure_ascii=False)
        return self._send([replace(one, headers={}) for one in searches])


TAG = "x-opaque-id"


def _unnamed(part: Any) -> Any:
    """Return a clause without the `_name`s that mark the rewriter's own boosts in hits."""
    if isinstance(part, Mapping):
        return {
            name: _unnamed(one)
            for name, one in part.items()
            if not (name == "_name" and str(one).startswith(NAME_PREFIX))
        }
    return [_unnamed(one) for one in part] if isinstance(part, list) else part


def _say(ratings: Ratings) -> None:
    if ratings.merged:
        what = "their ratings are means, since the tool knows queries and no people"
        print_line(
            f"note: {ratings.merged:,} of {count_of(len(ratings.grades), 'query', 'are')} several searches': {what}"
        )
    for what, count in ratings.notes.items():
        print_line(f"note: {count:,} {what}")
    for why, count in Counter(ratings.left_out).items():
        print_line(f"note: left out: {why} ({count:,})")


def _text(path: Path) -> str:
    try:
        return decoded(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([Fault(str(path), f"cannot be read: {error}")]) from None
