"""Exchange with OpenSearch's Search Relevance Workbench (3.8): query sets, search configurations, judgments. Pure.

https://docs.opensearch.org/3.8/search-plugins/search-relevance/query-sets/             entries of `queryText` and custom fields
https://docs.opensearch.org/3.8/search-plugins/search-relevance/search-configurations/  `query` in Mustache, `{{queryText}}`
https://docs.opensearch.org/latest/search-plugins/search-relevance/judgments/           IMPORT_JUDGMENT

The workbench judges a query, not a person's search for it. So judgments are merged by query, and custom fields name the subject of
an entry's search: `person`, a pseudonym, and `segment`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rewriter.errors import ConfigurationError, Fault, raise_faults
from rewriter.evaluate.judged import JudgedSearch
from rewriter.evaluate.ratings import Ratings, csv_of, grade_of, merged
from rewriter.subject import pseudonym

MAX_NAME = 50
PERSON, SEGMENT = "person", "segment"
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
    clauses:  for a configuration of each policy, whose entries hold their person's boosts in a custom field.
    """
    ratings = merged(searches)
    entries = list(_entries(searches, salt, clauses or {}))
    query_set = {
        "name": name[:MAX_NAME],
        "description": f"{len(entries)} searches, with the pseudonym of the person and the segment as custom fields",
        "sampling": "manual",
        "querySetQueries": entries,
    }
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
        "query_set.json": _written(query_set),
        "query_set.ndjson": "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries),
        "judgments.json": _written(judgments),
        "judgments.csv": csv_of(ratings.grades),
    }
    if template is not None:
        queries = {"baseline": of_workbench(template)}
        queries |= {policy: made for policy in clauses or {} if (made := with_clause(template, policy)) is not None}
        for which, query in queries.items():
            configuration = {"name": f"{name} {which}"[:MAX_NAME], "query": query, "index": index}
            files[f"search_configuration_{field_of(which)}.json"] = _written(configuration)
    return files, ratings


def with_clause(template: str, policy: str) -> str | None:
    """Return a search template with the `rescore` clause of an entry, if it has one; None for a template with its own rescore."""
    plain, field = of_workbench(template).rstrip(), f"rescore_{field_of(policy)}"
    if not plain.endswith("}") or '"rescore"' in plain:
        return None
    return plain[:-1] + "{{#" + field + '}}, "rescore": {{{' + field + "}}}{{/" + field + "}}}"


def field_of(name: str) -> str:
    """Return a policy's name as a part of a custom field's and a file's name: Mustache reads a dot as a path."""
    return re.sub(r"\W", "_", name)


def of_workbench(template: str) -> str:
    """Return a search template with the workbench's variable `queryText` in place of `query`."""
    return VARIABLE.sub(lambda found: f"{found[1] or found[3]}queryText{found[2] or found[4]}", template)


def _entries(searches: Iterable[JudgedSearch], salt: str, clauses: Clauses) -> Iterator[dict[str, str]]:
    """Yield the entries of a query set, each once: words, person and segment of a search, and each policy's clause for it."""
    seen: set[tuple[str, ...]] = set()
    for one in searches:
        person = pseudonym("x", one.subject.unit, salt) if one.subject.unit else ""
        segment = one.segment or next(iter(one.subject.segments), "")
        own = {f"rescore_{field_of(policy)}": of.get(one.search_id, "") for policy, of in clauses.items()}
        entry = {"queryText": one.query, PERSON: person, SEGMENT: segment, **own}
        if one.query and (key := tuple(entry.values())) not in seen:
            seen.add(key)
            yield {name: value for name, value in entry.items() if value}


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
