"""Exchange with OpenSearch's Search Relevance Workbench (3.8): query sets, search configurations, judgments. Pure.

https://docs.opensearch.org/3.8/search-plugins/search-relevance/query-sets/             entries of `queryText` and custom fields
https://docs.opensearch.org/3.8/search-plugins/search-relevance/search-configurations/  `query` in Mustache, `{{queryText}}`
https://docs.opensearch.org/latest/search-plugins/search-relevance/judgments/           IMPORT_JUDGMENT

The workbench judges a query, not a person's search for it. So judgments are merged by query, and custom fields name the subject of
an entry's search: `person`, a pseudonym, and `segment`.

`PUT query_sets` refuses a whole set if one value is longer than MAX_VALUE or holds a quotation mark, a backslash, < or >
(`TextValidationUtil` of https://github.com/opensearch-project/search-relevance). Boosts are JSON, so no custom field can hold them:
the configuration of a policy holds the boosts of all its entries, each in a section that a short custom field opens. OpenSearch
compiles no template above MAX_TEMPLATE_BYTES (`script.max_size_in_bytes`), so a policy's query set ends there.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rewriter.errors import ConfigurationError, Fault, raise_faults
from rewriter.evaluate.judged import JudgedSearch
from rewriter.evaluate.ratings import Ratings, csv_of, grade_of, merged
from rewriter.plural import count_of
from rewriter.subject import pseudonym

MAX_NAME = 50
MAX_VALUE = 2_000
MAX_TEMPLATE_BYTES = 65_535
REFUSED = re.compile(r'["\\\\<>\x00-\x1f]+')
PERSON, SEGMENT = "person", "segment"
CLEANED = "searches have characters in their words that a query set refuses: blanks replace them"
VARIABLE = re.compile(
    r"(\{\{\{?\s*[#^/&]?\s*)query(\s*\}\}\}?)|(\{\{#(?:toJson|url)\}\}\s*)query(\s*\{\{/(?:toJson|url)\}\})"
)
"""The variable `query` of a search template: as a value, as a section, in `toJson` and in `url`."""


Clauses = Mapping[str, Mapping[str, str]]
"""By policy and search_id, the `rescore` clause as JSON that personalizes the search. A search without one has no boosts."""


def exported(
    searches: Sequence[JudgedSearch],
    template: str | None,
    index: str,
    salt: str,
    clauses: Clauses | None = None,
    name: str = "rewriter",
) -> tuple[dict[str, str], Ratings]:
    """Return the files of an export by name, and the ratings in them.

    template: the team's search template in Mustache, with `{{query}}`; without one there is no search configuration.
    salt:     the salt of the people's pseudonyms.
    clauses:  for each policy, a configuration with its boosts, and a query set of the searches whose boosts it holds.
    """
    changed = [replace(one, query=_accepted(one.query)) for one in searches]
    ratings = merged(changed)
    if altered := sum(one.query != was.query for one, was in zip(changed, searches, strict=True)):
        ratings.notes[CLEANED] += altered
    entries = list(dict.fromkeys(_entry(one, salt) for one in changed if one.query))
    judgments = {
        "name": name[:MAX_NAME],
        "description": "mean grades over all searches for the same words",
        "type": "IMPORT_JUDGMENT",
        "judgmentRatings": [
            {"query": words, "ratings": [{"docId": one, "rating": f"{grade:.3f}"} for one, grade in grades.items()]}
            for words, grades in ratings.grades.items()
        ],
    }
    files = {
        **_query_set("query_set", name, [dict(one) for one in entries]),
        "judgments.json": _written(judgments),
        "judgments.csv": csv_of(ratings.grades),
    }
    if template is not None:
        files |= _configuration("baseline", name, of_workbench(template), index)
        for policy, own in (clauses or {}).items():
            made = with_clauses(
                template, policy, [(one, own[one.search_id]) for one in changed if one.search_id in own]
            )
            if made is not None:
                query, opened = made
                keys = {one.search_id: key for one, key in opened}
                listed = [dict(_entry(one, salt)) | {keys[one.search_id]: "1"} for one, _ in opened]
                files |= _configuration(policy, name, query, index)
                files |= _query_set(f"query_set_{field_of(policy)}", f"{name} {policy}", listed)
                if len(opened) < len(own):
                    ratings.notes[f"searches beyond the template's limit of {MAX_TEMPLATE_BYTES:,} bytes, {policy}"] = (
                        len(own) - len(opened)
                    )
    return files, ratings


def with_clauses(
    template: str, policy: str, clauses: Sequence[tuple[JudgedSearch, str]]
) -> tuple[str, list[tuple[JudgedSearch, str]]] | None:
    """Return a search template with the `rescore` clauses of searches, each in a section, and each search's custom field.

    Searches beyond the limit of a template's size are left out. None for a template with its own rescore.
    """
    plain = of_workbench(template).rstrip()
    if not plain.endswith("}") or '"rescore"' in plain:
        return None
    keys: dict[str, str] = {}
    parts, size = [plain[:-1]], len(plain.encode())
    found: list[tuple[JudgedSearch, str]] = []
    for search, clause in clauses:
        if clause not in keys:
            key = f"{field_of(policy)[: MAX_NAME - 8]}_{len(keys) + 1}"
            inside = clause.replace("{{", "{\\u007b")  # only within a JSON string
            section = "{{#" + key + '}}, "rescore": ' + inside + "{{/" + key + "}}"
            if size + len(section.encode()) > MAX_TEMPLATE_BYTES:
                break
            keys[clause] = key
            parts.append(section)
            size += len(section.encode())
        found.append((search, keys[clause]))
    return "".join([*parts, "}"]), found


def field_of(name: str) -> str:
    """Return a policy's name as a part of a custom field's and a file's name: Mustache reads a dot as a path."""
    return re.sub(r"\W", "_", name)


def of_workbench(template: str) -> str:
    """Return a search template with the workbench's variable `queryText` in place of `query`."""
    return VARIABLE.sub(lambda found: f"{found[1] or found[3]}queryText{found[2] or found[4]}", template)


def _accepted(words: str) -> str:
    """Return words as a query set accepts them: other characters become blanks."""
    return " ".join(REFUSED.sub(" ", words).split())[:MAX_VALUE]


def _entry(one: JudgedSearch, salt: str) -> tuple[tuple[str, str], ...]:
    """Return an entry of a query set: words, person and segment of a search."""
    person = pseudonym("x", one.subject.unit, salt) if one.subject.unit else ""
    segment = _accepted(one.segment or next(iter(one.subject.segments), ""))
    entry = {"queryText": one.query, PERSON: person, SEGMENT: segment}
    return tuple((name, value) for name, value in entry.items() if value)


def _query_set(file: str, name: str, entries: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return a query set as the body that creates it, and as NDJSON."""
    query_set = {
        "name": name[:MAX_NAME],
        "description": f"{count_of(len(entries), 'search')}, with the pseudonym of the person and the segment as custom fields",
        "sampling": "manual",
        "querySetQueries": list(entries),
    }
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    return {f"{file}.json": _written(query_set), f"{file}.ndjson": lines}


def _configuration(which: str, name: str, query: str, index: str) -> dict[str, str]:
    configuration = {"name": _accepted(f"{name} {which}")[:MAX_NAME], "query": query, "index": index}
    return {f"search_configuration_{field_of(which)}.json": _written(configuration)}


def read_judgments(text: str, where: str) -> Ratings:
    """Return the ratings in a judgment list as JSON: the body that creates one, or the workbench's answer.

    Raises ConfigurationError with every fault.
    """
    listed = _found(_parsed(text, where), "judgmentRatings")
    if isinstance(listed, Mapping):  # the format of the first versions: ratings by query
        listed = [{"query": words, "ratings": ratings} for words, ratings in listed.items()]
    if not isinstance(listed, list):
        raise ConfigurationError([Fault(where, "holds no `judgmentRatings`")])
    found, faults = Ratings(), list[Fault]()
    for at, one in enumerate(listed):
        words, ratings = (one.get("query"), one.get("ratings")) if isinstance(one, Mapping) else (None, None)
        if not isinstance(words, str) or not words or not isinstance(ratings, list):
            faults.append(Fault(where, f"judgmentRatings[{at}] has no `query` or no list of `ratings`"))
            continue
        grades = found.grades.setdefault(words, {})
        for number, rating in enumerate(ratings):
            document = rating.get("docId") if isinstance(rating, Mapping) else None
            grade = grade_of(rating.get("rating")) if isinstance(rating, Mapping) else None
            if not isinstance(document, str) or not document or grade is None:
                faults.append(Fault(where, f"judgmentRatings[{at}].ratings[{number}] is not a docId with a rating"))
            else:
                grades[document] = grade
    raise_faults(faults, where)
    return found


def read_query_set(text: str, where: str) -> dict[str, list[tuple[str, str]]]:
    """Return the (person, segment) of each entry of a query set, by its words; "" for a missing one.

    A query set is NDJSON, the body that creates one, or the workbench's answer. Raises ConfigurationError with every fault.
    """
    try:
        entries = _found(json.loads(text), "querySetQueries")
    except (ValueError, RecursionError):
        entries = [_parsed(line, f"{where}:{at}") for at, line in enumerate(text.split("\n"), 1) if line.strip()]
    else:
        entries = [json.loads(text)] if entries is None else entries
    found: dict[str, list[tuple[str, str]]] = {}
    faults: list[Fault] = []
    for at, entry in enumerate(entries if isinstance(entries, list) else [None]):
        words = entry.get("queryText") if isinstance(entry, Mapping) else None
        if not isinstance(words, str) or not words:
            faults.append(Fault(where, f"entry {at} has no `queryText`"))
            continue
        found.setdefault(words, []).append(tuple(str(entry.get(name) or "") for name in (PERSON, SEGMENT)))  # type: ignore[arg-type]
    raise_faults(faults, where)
    return found


def unjudged(ratings: Ratings, people: Mapping[str, Sequence[Any]]) -> Counter[str]:
    """Return the number of the query set's queries that the judgments lack."""
    missing = sum(words not in ratings.grades for words in people)
    return Counter({"queries without judgments": missing} if missing else {})


def _found(data: Any, name: str) -> Any:
    """Return the value of a key at the top, or in the `_source` of the first hit of an answer; None if it is missing."""
    if not isinstance(data, Mapping):
        return None
    if name in data:
        return data[name]
    hits = data.get("hits")
    listed = hits.get("hits") if isinstance(hits, Mapping) else None
    source = (
        listed[0].get("_source") if isinstance(listed, list) and listed and isinstance(listed[0], Mapping) else None
    )
    return source.get(name) if isinstance(source, Mapping) else None


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigurationError([Fault(where, "is not JSON")]) from None


def _written(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
