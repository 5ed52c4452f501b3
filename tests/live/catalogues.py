"""Catalogues that have little in common, generated: films, a shop, news, jobs and logs, each with its mapping.

Every draw is seeded, so that figures are the same in each run. Times lie before `now_s`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

DAY_S = 86_400.0
KEYWORD = {"type": "keyword"}
TEXT = {"type": "text"}
BOTH = {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}}
DATE = {"type": "date"}

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A mapping's properties and documents by id; without ids, the server makes them up."""

    properties: Mapping[str, Any]
    documents: Mapping[str, Document]


def day(at_s: float) -> str:
    """Return a time as a document writes it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")


def films(now_s: float, count: int = 600) -> Catalogue:
    """Multi-fields as dynamic mapping makes them, several genres a film, a year as a number."""
    draw = Random(1)
    genres = {"Drama": 40, "Comedy": 30, "Thriller": 20, "Western": 12, "Documentary": 15, "Animation": 9}
    directors = {genre: [f"{genre} director {n}" for n in range(how_many)] for genre, how_many in genres.items()}
    documents = {}
    for number in range(count):
        genre = draw.choice(list(genres))
        more = draw.sample([one for one in genres if one != genre], draw.choice([0, 0, 1]))
        documents[f"tt{number:07}"] = {
            "title": f"{draw.choice(['The', 'A', 'Last'])} {draw.choice(['Road', 'Summer', 'River', 'Night'])} {number}",
            "genres": [genre, *more],
            "director": draw.choice(directors[genre]),
            "country": draw.choice(["US", "US", "FR", "DE", "JP", "IN"]),
            "year": draw.randint(1930, 2026),
            "imdb_url": f"https://films.example/title/tt{number:07}",
            "added_at": day(now_s - draw.random() ** 2 * 900 * DAY_S),
            "last_updated": day(now_s - draw.random() * 2 * DAY_S),
        }
    properties = {
        "title": BOTH, "genres": BOTH, "director": BOTH, "country": BOTH, "year": {"type": "integer"},
        "imdb_url": BOTH, "added_at": DATE, "last_updated": DATE,
    }  # fmt: skip
    return Catalogue(properties, documents)


def shop(now_s: float, count: int = 1_200) -> Catalogue:
    """Objects, nested offers, an alias, a keyword that cannot be searched, prices, and brands that keep to their categories."""
    draw = Random(2)
    categories = {f"category {n}": [f"brand {n}-{brand}" for brand in range(6)] for n in range(24)}
    documents = {}
    for number in range(count):
        category = draw.choice(list(categories))
        documents[f"p{number}"] = {
            "title": f"product {number}",
            "product": {"category": category, "brand": draw.choice(categories[category]), "sku": f"SKU-{number:06}"},
            "color": draw.choice(["black", "white", "red", "blue", "green"]) if draw.random() < 0.7 else None,
            "in_stock": draw.random() < 0.8,
            "price": round(draw.lognormvariate(3, 1), 2),
            "offers": [{"seller": f"seller {draw.randint(1, 9)}", "price": 10}],
            "barcode": f"{draw.randint(10**12, 10**13)}",
            "internal": "x",
            "listed": day(now_s - draw.random() * 700 * DAY_S),
            "offer_until": day(now_s + (draw.random() * 100 - 20) * DAY_S),
        }
    properties = {
        "title": TEXT,
        "product": {"properties": {"category": KEYWORD, "brand": KEYWORD, "sku": KEYWORD}},
        "maker": {"type": "alias", "path": "product.brand"},
        "color": KEYWORD,
        "in_stock": {"type": "boolean"},
        "price": {"type": "scaled_float", "scaling_factor": 100},
        "offers": {"type": "nested", "properties": {"seller": KEYWORD, "price": {"type": "float"}}},
        "barcode": KEYWORD,
        "internal": {"type": "keyword", "index": False, "doc_values": False},
        "listed": DATE,
        "offer_until": DATE,
    }
    return Catalogue(properties, documents)


def news(now_s: float, count: int = 900) -> Catalogue:
    """Articles of the last weeks, with authors' mail addresses and free tags."""
    draw = Random(3)
    sections = {"politics": 9, "sport": 7, "culture": 8, "science": 5, "local": 11}
    documents = {}
    for number in range(count):
        section = draw.choice(list(sections))
        documents[f"a{number}"] = {
            "headline": f"article {number}",
            "body": "words " * 5,
            "section": section,
            "author_email": f"{section}.{draw.randrange(sections[section])}@news.example",
            "byline": f"{section} writer {draw.randrange(sections[section])}",
            "tags": [f"{section} tag {draw.randrange(30)}" for _ in range(3)],
            "status": draw.choice(["published", "published", "archived"]),
            "published": day(now_s - draw.random() * 28 * DAY_S),
            "modified": day(now_s - draw.random() * DAY_S),
        }
    properties = {
        "headline": TEXT, "body": TEXT, "section": KEYWORD, "author_email": KEYWORD, "byline": KEYWORD, "tags": KEYWORD,
        "status": KEYWORD, "published": DATE, "modified": {"type": "date_nanos"},
    }  # fmt: skip
    return Catalogue(properties, documents)


def jobs(now_s: float, count: int = 700) -> Catalogue:
    """German names, references as numbers, a deadline, and ids that the server made up beside a reference of each job."""
    draw = Random(4)
    fields = {n: [f"Skill {n}-{skill}" for skill in range(7)] for n in range(12)}
    documents = {}
    for number in range(count):
        field = draw.choice(list(fields))
        key = base64.urlsafe_b64encode(draw.randbytes(15)).decode()
        documents[key] = {
            "bezeichnung": f"Stelle {number}",
            "referenz_id": f"J-{number:05}",
            "berufsgruppe_id": field,
            "skills": draw.sample(fields[field], 2),
            "arbeitgeber": f"Firma {draw.randrange(90)}",
            "stadt": draw.choice(["Berlin", "Hamburg", "Köln", "Wien", "Zürich"]),
            "gehalt": draw.randrange(30_000, 120_000, 500),
            "erstellt": day(now_s - draw.random() * 60 * DAY_S),
            "bewerbung_deadline": day(now_s + draw.random() * 60 * DAY_S),
        }
    properties = {
        "bezeichnung": TEXT, "referenz_id": KEYWORD, "berufsgruppe_id": {"type": "integer"}, "skills": KEYWORD,
        "arbeitgeber": KEYWORD, "stadt": KEYWORD, "gehalt": {"type": "integer"}, "erstellt": DATE, "bewerbung_deadline": DATE,
    }  # fmt: skip
    return Catalogue(properties, documents)


def logs(now_s: float, count: int = 800) -> Catalogue:
    """Lines of a data stream: what people read, and choose nothing of."""
    draw = Random(5)
    documents = {}
    for number in range(count):
        service = draw.choice(["cart", "search", "login", "mail"])
        documents[str(number)] = {
            "@timestamp": day(now_s - draw.random() * 5 * DAY_S),
            "message": f"line {number}",
            "service": service,
            "level": draw.choice(["INFO", "INFO", "INFO", "WARN", "ERROR"]),
            "host": f"{service}-{draw.randrange(5)}.example",
            "client": {"ip": f"10.0.0.{draw.randrange(250)}", "session": f"{draw.getrandbits(128):032x}"},
            "trace_id": f"{draw.getrandbits(128):032x}",
            "labels": {"pod": f"{service}-{draw.randrange(20)}"},
        }
    properties = {
        "@timestamp": DATE, "message": TEXT, "service": KEYWORD, "level": KEYWORD, "host": KEYWORD,
        "client": {"properties": {"ip": {"type": "ip"}, "session": KEYWORD}}, "trace_id": KEYWORD,
        "labels": {"type": "flat_object"},
    }  # fmt: skip
    return Catalogue(properties, documents)
