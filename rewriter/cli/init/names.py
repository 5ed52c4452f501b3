"""Hints from a field's name about its use. They break ties between figures, and decide alone only if the index is empty."""

from __future__ import annotations

import re

_FACETS = (
    "actor|album|artist|author|autor|brand|breed|cast|categor|categoria|channel|city|color|colour|company|country|couleur|cuisine"
    "|department|designer|director|employer|farbe|fabric|format|gender|genre|hersteller|industry|interpret|kategorie|keyword|label"
    "|language|location|maker|manufacturer|marca|marke|marque|material|model|occasion|platform|producer|product_type|producttype"
    "|profession|publisher|region|rubrik|section|season|seller|series|size|skill|sport|stil|store|style|subject|supplier|tag|taste"
    "|team|theme|topic|type|vendor|venue|warengruppe"
)
_CLASSES = (
    "categor|categoria|class|cuisine|department|discipline|genre|group|gruppe|industry|kategorie|kind|product_type|producttype"
    "|rubrik|section|segment|subject|theme|topic|type|warengruppe"
)
_LISTED = (
    "added|available|created|date|datum|first|issued|launch|listed|listing|live|online|posted|publi|release|since|start"
    "|timestamp"
)
_NOT_LISTED = (
    "archiv|birth|changed|checked|closed|crawled|deadline|deleted|delivered|end|expir|harvest|indexed|ingested|last|modif|ordered"
    "|sold|synced|touched|until|updated|valid"
)
_REFERENCES = "code|id|identifier|key|no|nr|number|num"
_AMOUNTS = "size|season|series"
_PERSONAL = (
    "account|address|birth|client|contact|customer|e_?mail|ip|login|mobile|owner|passw|person|phone|secret|session|ssn|token|user"
    "|visitor"
)
_TECHNICAL = (
    "_class|barcode|checksum|crc|currency|ean|etag|flag|gtin|guid|hash|href|image|img|isbn|lang|link|locale|md5|path|sha|sku|slug"
    "|source_system|span|state|status|thumbnail|trace|unit|upc|uri|url|uuid|version"
)


def _words(name: str) -> str:
    """Return a field's own name in lower case with `_` between its words: `productType.keyword` becomes `product_type_keyword`."""
    return re.sub(r"[^a-zäöüß0-9]+", "_", re.sub(r"(?<=[a-zäöü0-9])(?=[A-ZÄÖÜ])", "_", name).lower()).strip("_")


def _starts(name: str, stems: str) -> bool:
    return re.search(rf"(?:^|_)(?:{stems})", _words(name)) is not None


def suggests_facet(name: str) -> bool:
    """Whether a field is named like a property by which people choose."""
    return _starts(name, _FACETS) and not suggests_technical(name)


def suggests_coded(name: str) -> bool:
    """Whether a numeric field probably holds codes, such as those of a brand or a genre, and not amounts."""
    return suggests_reference(name) or (suggests_facet(name) and not _starts(name, _AMOUNTS))


def suggests_class(name: str) -> bool:
    """Whether a field is named like the classes of a catalogue."""
    return _starts(name, _CLASSES) and not suggests_technical(name)


def suggests_listing_date(name: str) -> int:
    """Return 1 where a date is named like the time of a listing, -1 where it is named like another, else 0."""
    return -1 if _starts(name, _NOT_LISTED) else int(_starts(name, _LISTED))


def suggests_reference(name: str) -> bool:
    """Whether a field is named like the id of something."""
    return (
        re.search(rf"(?:^|_)(?:{_REFERENCES}|sku|ean|gtin|isbn|asin|upc)(?:_keyword|_raw)?$", _words(name)) is not None
    )


def suggests_person(name: str) -> bool:
    """Whether a field is named like personal data."""
    return re.search(rf"(?:^|_)(?:{_PERSONAL})(?:_|s?$)", _words(name)) is not None


def suggests_technical(name: str) -> bool:
    """Whether a field is named like a property of the record, not of what it describes."""
    return re.search(rf"(?:^|_)(?:{_TECHNICAL})(?:_|s?$)", _words(name)) is not None
