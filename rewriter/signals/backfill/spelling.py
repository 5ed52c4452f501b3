"""SQL expressions that convert the columns of history files to text: each value as written, or in the canonical form of its type.

Texts are unchanged. Integral floats and decimals lose their zeros (pandas writes the integer 17 as 17.0 in a column with missing
values); dates and times are ISO 8601; binary is UTF-8; NaN and infinity are missing values. A type without a canonical form
(struct, map, interval, bytes that are no UTF-8, floats too large to distinguish integers) is a fault of its column.
"""

from __future__ import annotations

from rewriter.signals.absent import ABSENT_IDS, CONSENT
from rewriter.signals.absent import BLANKS as ANY_BLANKS

BLANKS = " || ".join(f"chr({ord(one)})" for one in ANY_BLANKS)
MAX_ID = 256
"""Characters of the longest identifier: events with a longer one are refused."""
INTEGERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"}
)
EXACT_BELOW = {"FLOAT": 2**24, "DOUBLE": 2**53}
"""Limit below which a float represents every integer exactly."""


_REFUSED = {text for text, is_given in CONSENT.items() if not is_given}


def _listed(texts: object) -> str:
    return ", ".join("'" + str(text).replace("'", "''") + "'" for text in sorted(texts))  # type: ignore[call-overload]


MACROS = (
    f"CREATE MACRO bare(x) AS lower(trim(x, {BLANKS}))",
    f"CREATE MACRO there(x) AS CASE WHEN bare(x) IN ({_listed(ABSENT_IDS)}) THEN NULL ELSE x END",
    f"CREATE MACRO too_long(x) AS coalesce(length(there(x)) > {MAX_ID}, false)",
    f"""
    CREATE MACRO agreed(x) AS CASE WHEN x IS NULL OR bare(x) IN ({_listed(_REFUSED)}) THEN false
    WHEN bare(x) IN ({_listed(CONSENT.keys() - _REFUSED)}) THEN true END
    """,
    f"""
    CREATE MACRO is_inexact(x) AS regexp_matches(x, '[.eE]') AND coalesce(isfinite(TRY_CAST(x AS DOUBLE)), false)
    AND abs(TRY_CAST(x AS DOUBLE)) >= {EXACT_BELOW["DOUBLE"]}
    """,
    # Epochs in seconds, milliseconds, microseconds or nanoseconds: whichever makes a time of this century.
    """
    CREATE MACRO scaled(n) AS CASE WHEN abs(n) > 2e16 THEN n / 1e9 WHEN abs(n) > 2e13 THEN n / 1e6
    WHEN abs(n) > 2e10 THEN n / 1e3 ELSE n END
    """,
    r"""
    CREATE MACRO moment(x) AS coalesce(epoch(TRY_CAST(x AS TIMESTAMPTZ)),
    CASE WHEN regexp_full_match(x, '\s*(\d{9,19}(\.\d+)?|\d\.\d{1,18}[eE]\+?\d{1,2})\s*') THEN scaled(TRY_CAST(x AS DOUBLE)) END,
    epoch(TRY_CAST(upper(regexp_replace(x, ':(\d\d),(\d)', ':\1.\2')) AS TIMESTAMPTZ)))
    """,
    # What an event's list of segments is read as: blanks around names, and names that are none, are left out.
    f"""
    CREATE MACRO names_of(x) AS list_filter(list_transform(x, lambda one: trim(one, {BLANKS})), lambda one: coalesce(one, '') <> '')
    """,
)


def spelled(column: str, kind: str) -> str | None:
    """Return the expression that converts a column to text, or None for a type without a canonical form, such as a list.

    kind: DuckDB's type of the column.
    """
    base = kind.partition("(")[0]
    if kind == "VARCHAR" or base in INTEGERS or base in ("ENUM", "UUID", "BOOLEAN", "DATE", "TIME", '"NULL"', "NULL"):
        return f"{column}::VARCHAR"
    if base in EXACT_BELOW:
        return (
            f"CASE WHEN NOT isfinite({column}) THEN NULL WHEN {column} = trunc({column}) AND abs({column}) <"
            f" {EXACT_BELOW[base]} THEN {column}::BIGINT::VARCHAR ELSE {column}::VARCHAR END"
        )
    if base == "DECIMAL":
        return (
            rf"CASE WHEN contains({column}::VARCHAR, '.') THEN regexp_replace({column}::VARCHAR, '\.?0+$', '')"
            rf" ELSE {column}::VARCHAR END"
        )
    if base.startswith("TIMESTAMP"):
        return rf"regexp_replace(replace({column}::VARCHAR, ' ', 'T'), '\+00$', 'Z')"
    if base == "BLOB":
        return f"try(decode({column}))"
    return None


def unsound(column: str, kind: str) -> tuple[str, str] | None:
    """Return the condition under which a value has no canonical form, and the fault; None if every value of the type has one."""
    base = kind.partition("(")[0]
    if base in EXACT_BELOW:
        limit = EXACT_BELOW[base]
        return (
            f"isfinite({column}) AND abs({column}) >= {limit}",
            f"holds floats above {limit:,}, which cannot distinguish integers (export it as integer or text)",
        )
    if base == "BLOB":
        return (
            f"{column} IS NOT NULL AND try(decode({column})) IS NULL",
            "holds bytes that are no UTF-8 (export it as text)",
        )
    return None


def moment_of(column: str, kind: str) -> str | None:
    """Return the expression that converts a column to seconds since the epoch, or None for an unfit type. Without a zone: UTC."""
    base = kind.partition("(")[0]
    if base.startswith("TIMESTAMP") or base == "DATE":
        moment = f"{column}::TIMESTAMPTZ"  # `isfinite` takes no time with a zone in nanoseconds, which pandas writes
        return f"CASE WHEN isfinite({moment}) THEN epoch({moment}) END"
    if base in INTEGERS or base in EXACT_BELOW or base == "DECIMAL":
        return f"CASE WHEN isfinite({column}::DOUBLE) THEN scaled({column}::DOUBLE) END"
    text = spelled(column, kind)
    return None if text is None or base in ("TIME", "UUID", "BOOLEAN") else f"moment({text})"
