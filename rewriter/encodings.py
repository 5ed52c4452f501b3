"""Decoding of hand-written files: some editors and shells write a byte order mark, or UTF-16."""

from __future__ import annotations

import codecs
from typing import Any

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SAMPLE_BYTES = 256


def encoding_of(head: bytes) -> str:
    """Return the encoding of a text from its first bytes: by the byte order mark, by the zeros of UTF-16 and UTF-32, else UTF-8."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding
    sample = head[:SAMPLE_BYTES]
    if len(sample) >= 8 and not any(sample[1:-1:4]) and not any(sample[2:-1:4]):
        return "utf-32-le" if sample[0] else "utf-32-be"
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if odd > len(sample) // 4 and not even:
        return "utf-16-le"
    if even > len(sample) // 4 and not odd:
        return "utf-16-be"
    return "utf-8"


def decoded(raw: bytes) -> str:
    """Return a text without its byte order mark. Raises UnicodeDecodeError."""
    return raw.decode(encoding_of(raw))


def decoded_somehow(raw: bytes) -> str:
    """Return a text whose ASCII characters are right in any encoding: an accent in a comment must not void a switch."""
    try:
        return decoded(raw)
    except UnicodeDecodeError:
        encoding = encoding_of(raw)
        return raw.decode(encoding, "replace") if encoding.startswith(("utf-16", "utf-32")) else raw.decode("latin-1")


def header_text(part: Any) -> str:
    """Return a header's name or value, which clients send alike as text and as bytes."""
    return part.decode("latin-1") if isinstance(part, bytes) else str(part)


def in_utf8(text: str) -> str:
    """Return a text that UTF-8 can encode: a lone surrogate becomes an escape."""
    return text.encode("utf-8", "backslashreplace").decode()
