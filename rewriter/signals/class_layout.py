"""Bytes of counters by class: a hash of a few buckets, each of which holds some of a subject's classes.

`BASE:c` is a hash. A class lies in the bucket (first byte of the SHA-1 of its name) modulo `BUCKETS`:

    field U+001F            the names of the signal fields, joined by U+001F: the first one has the number 0
    field U+001F, number    a bucket:      byte 2, the number of this format, then its classes, the one used last first
    field U+001F, n, number a bucket of neighbours (`neighbours`), in the same form

    a class      the first 4 bytes of the SHA-1 of its name; the number of bytes that follow (one byte; 255: in the next 2);
                 its landmark in units of 256 s since the epoch (3 bytes); groups of counters of equal weight, the heaviest first
    a group      2 bytes q: the weight is 2^((q mod 2¹⁵ − 16,384) / 512); from 2¹⁵ on, a byte with the number of counters follows,
                 otherwise there is one; the counters. A group of no counters tells the strength (`strengths`) of the items that
                 follow, up to the next one: the weight of the strongest action that the subject did with them. Items before
                 the first one, and behind one whose q mod 2¹⁵ is 0, have an unknown strength
    a counter    a byte: 32 · the field's number (from 7 on: 7, and the number in the next byte) + a code; the value

    code 1–22    a text of so many bytes          0       a text whose length is in the next 2 bytes
    code 24–29   a decimal number without leading zeros, below 10¹⁴, in code − 23 bytes
    code 23      no value: items that are left out since, but count in the class's total

All numbers are little-endian. A weight is exact to 0.07 %, which suffices for affinities, and takes 2 bytes instead of 8. What took
26 bytes a class and 28 a counter takes 14 and 7. The total of a class is the sum of its items. A program that knows of no strengths
reads the same counters, and what it writes has none.

The layout before (`FIRST_FORMAT`) had a hash field for each class, under its name. It is read where a bucket lacks the class, and
ingest moves a class with its next event. Pure. The bytes may be anybody's: a class that is unsound is none at all, a value that is
no text matches nothing. Ingest reads by the same rules (classes.lua), and so begins such a class anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha1
from struct import Struct

from rewriter.signals.class_counters import MAX_VALUES, SUFFIX, ClassCounters
from rewriter.signals.counters import MAX_MEMBER_BYTES, SEPARATOR, Value, member, sound, value_of
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.strengths import LAST, MIDDLE, STEPS, number_of

FORMAT, FIRST_FORMAT = 2, 1
BUCKETS = 16
MAX_IN_BUCKET = 24
"""Classes of one bucket, those used last. As in classes.lua."""
UNIT_S = 256
"""Unit of a landmark."""
NAMES = SEPARATOR
"""The hash field that holds the names of signal fields."""
MAX_CLASS_BYTES = 16_384
"""Bytes of the values of a class; beyond it the lightest are left out. As in classes.lua."""
MAX_BUCKET_BYTES = 1 + MAX_IN_BUCKET * (MAX_CLASS_BYTES + 10 + 3 * MAX_VALUES)
_LONG, _LEFT_OUT, _NUMBERS, _LONGEST = 0, 23, range(24, 30), 22
_MANY = 1 << 15
_HEAD, _WEIGHED, _SHORT = Struct("<Bddd"), Struct("<dH"), Struct("<H")
_DIGEST, _LANDMARK = 4, 3
_OTHER_FIELD = 7
_MAX_NUMBER_DIGITS = 14
_SIZES = tuple(
    0 if head >= _OTHER_FIELD << 5 or head & 31 == _LONG
    else 1 if head & 31 == _LEFT_OUT
    else 1 + (head & 31) - (_LEFT_OUT if head & 31 > _LEFT_OUT else 0)
    for head in range(256)
)  # fmt: skip
"""Bytes of a counter by its first byte; 0 where the next ones decide."""
_WEIGHTS = tuple(2.0 ** ((q - MIDDLE) / STEPS) for q in range(LAST + 1))


@lru_cache(4_096)
def digest_of(class_name: str) -> bytes:
    """Return the digest by which a class is found in its bucket; that of neighbours is their class's."""
    return sha1(class_name.removesuffix(SUFFIX).encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()[:4]


def bucket_of(class_name: str) -> str:
    """Return the hash field of the bucket that holds a class."""
    return f"{NAMES}{'n' if class_name.endswith(SUFFIX) else ''}{digest_of(class_name)[0] % BUCKETS}"


def wanted_fields(class_names: Sequence[str]) -> list[str]:
    """Return the hash fields that hold some classes: the names, their buckets, and where the layout before had them."""
    return [NAMES, *dict.fromkeys(map(bucket_of, class_names)), *class_names]


def read_classes(class_names: Sequence[str], replies: Sequence[bytes | None]) -> dict[str, ClassCounters]:
    """Return the classes that a subject has, of the values of `wanted_fields(class_names)`."""
    found: dict[str, ClassCounters] = {}
    values = dict(zip(wanted_fields(class_names), replies, strict=False))
    names = field_names(values.get(NAMES))
    bodies: dict[str, dict[bytes, bytes]] = {}
    for name in class_names:
        bucket = bucket_of(name)
        if bucket not in bodies:
            bodies[bucket] = dict(bodies_in(values.get(bucket)))
        body = bodies[bucket].get(digest_of(name))
        own = unpacked(body, names) if body is not None else first_unpacked(values.get(name))
        if own is not None:
            found[name] = own
    return found


def held_items(items: Mapping[str, Iterable[str]], replies: Sequence[bytes | None]) -> dict[tuple[str, str], int]:
    """Return the strengths of those of some items that a subject has, by class and id; 0 is unknown.

    items: ids by class. replies: the values of `wanted_fields` of these classes.
    """
    found: dict[tuple[str, str], int] = {}
    values = dict(zip(wanted_fields(list(items)), replies, strict=False))
    names = field_names(values.get(NAMES))
    number = names.index(ITEM) if ITEM in names else None
    bodies: dict[str, dict[bytes, bytes]] = {}
    for name, ids in items.items():
        bucket = bucket_of(name)
        if bucket not in bodies:
            bodies[bucket] = dict(bodies_in(values.get(bucket)))
        body = bodies[bucket].get(digest_of(name))
        if body is not None:
            keys = {_counter(number, one): one for one in ids} if number is not None else {}
            found |= {(name, keys[key]): strength for key, strength in _strengths(body, keys).items()}
        elif (first := first_unpacked(values.get(name))) is not None:
            found |= {(name, one): 0 for one in ids if (ITEM, one) in first.weights}
    return found


def _strengths(raw: bytes, keys: Collection[bytes]) -> dict[bytes, int]:
    """Return the strengths of those of the counters `keys` that are in the bytes of a class. What is unsound ends them."""
    found: dict[bytes, int] = {}
    at, end, strength = _LANDMARK, len(raw), 0
    try:
        while at < end:
            q, at, left = raw[at] | raw[at + 1] << 8, at + 2, 1
            if q >= _MANY:
                left, at = raw[at], at + 1
                if not left:
                    strength = q - _MANY
            for _ in range(left):
                size = _SIZES[raw[at]] or _long_size(raw, at)
                if (key := raw[at : at + size]) in keys:
                    found[key] = strength
                    if len(found) == len(keys):
                        return found
                at += size
    except IndexError:
        pass
    return found


def field_names(raw: bytes | None) -> tuple[str, ...]:
    """Return the names of the fields by number."""
    return tuple(raw.decode("utf-8", "replace").split(SEPARATOR)) if raw else ()


def packed_classes(classes: Mapping[str, ClassCounters]) -> dict[str, bytes]:
    """Return the values of a hash by its fields: of each class the heaviest values, in each bucket the classes used last."""
    names = list(dict.fromkeys((ITEM, *(value[0] for one in classes.values() for value in one.weights))))[:255]
    numbers = {name: number for number, name in enumerate(names)}
    buckets: dict[str, list[tuple[float, bytes, bytes]]] = {}
    for name, one in classes.items():
        if 0 < len(name) <= MAX_MEMBER_BYTES and sound(one.landmark_s) is not None:
            body, digest = packed(one, numbers), digest_of(name)
            size = bytes((len(body),)) if len(body) < 255 else b"\xff" + _SHORT.pack(len(body))
            buckets.setdefault(bucket_of(name), []).append((-one.last_event_s, digest, digest + size + body))
    found = {
        name: bytes((FORMAT,)) + b"".join(part for *_, part in sorted(parts)[:MAX_IN_BUCKET])
        for name, parts in buckets.items()
    }
    return {NAMES: SEPARATOR.join(names).encode(), **found} if found else {}


def bodies_in(raw: bytes | None) -> Iterable[tuple[bytes, bytes]]:
    """Yield digest and bytes of each class of a bucket, up to the first that is cut off; none of a value in another format."""
    if not raw or raw[0] != FORMAT or len(raw) > MAX_BUCKET_BYTES:
        return
    at, classes = 1, 0
    while at + _DIGEST < len(raw) and (classes := classes + 1) <= MAX_IN_BUCKET:
        digest, size = raw[at : at + _DIGEST], raw[at + _DIGEST]
        at += _DIGEST + 1
        if size == 255:
            if at + 2 > len(raw):
                return
            (size,) = _SHORT.unpack_from(raw, at)
            at += 2
        if at + size > len(raw):
            return
        yield digest, raw[at : at + size]
        at += size


def packed(counters: ClassCounters, numbers: Mapping[str, int]) -> bytes:
    """Return the bytes of a class. numbers: of the signal fields."""
    heaviest = sorted(counters.weights.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_VALUES]
    strengths = {value: number_of(weight) for value, weight in (counters.strengths or {}).items() if value[0] == ITEM}
    strongest = max((strengths.get(value, 0) for value, _ in heaviest), default=0)
    grouped: dict[tuple[int, int], list[bytes]] = {}
    in_items, room = 0.0, MAX_CLASS_BYTES
    for value, weight in heaviest:
        if sound(weight) and member(value) is not None and value[0] in numbers and (q := number_of(weight)):
            counter = _counter(numbers[value[0]], SEPARATOR.join(value[1:]))
            room -= len(counter)
            if room < 0:
                break
            strength = strengths.get(value, 0) if value[0] == ITEM else strongest
            grouped.setdefault((strength, q), []).append(counter)
            in_items += weight if value[0] == ITEM else 0.0
    left_out = (sound(counters.total) or 0.0) - in_items
    if left_out > in_items / STEPS and (q := number_of(left_out)):
        grouped.setdefault((strongest, q), []).append(bytes((_LEFT_OUT,)))
    units = min((1 << 24) - 1, max(0, round(counters.landmark_s / UNIT_S)))
    parts, before = [units.to_bytes(_LANDMARK, "little")], 0
    for (strength, q), listed in sorted(grouped.items(), reverse=True):
        if strength != before:
            parts.append(_SHORT.pack(strength + _MANY) + b"\0")
            before = strength
        head = _SHORT.pack(q) if len(listed) == 1 else _SHORT.pack(q + _MANY) + bytes((len(listed),))
        parts += (head, *sorted(listed))
    return b"".join(parts)


def unpacked(raw: bytes, names: Sequence[str]) -> ClassCounters | None:  # noqa: PLR0912  one loop over bytes: searches wait for it
    """Return the counters in the bytes of a class, or None where they are unsound. Fields without a name are left out."""
    weights: dict[Value, float] = {}
    total, counters = 0.0, 0
    at, end = _LANDMARK, len(raw)
    if end < at:
        return None
    try:
        while at < end:
            q, at = raw[at] | raw[at + 1] << 8, at + 2
            count = 1
            if q >= _MANY:
                count, at = raw[at], at + 1
            weight = _WEIGHTS[q & LAST]
            for _ in range(count):
                head, at = raw[at], at + 1
                number, code = head >> 5, head & 31
                if number == _OTHER_FIELD:
                    number, at = raw[at], at + 1
                if code == _LEFT_OUT:
                    total += weight
                    continue
                if code > _LEFT_OUT:
                    size = code - _LEFT_OUT
                    text = str(int.from_bytes(raw[at : at + size], "little"))
                    if code not in _NUMBERS:
                        return None
                else:
                    size = code
                    if code == _LONG:
                        size, at = raw[at] | raw[at + 1] << 8, at + 2
                    text = raw[at : at + size].decode("utf-8", "replace")
                at += size
                if at > end or not text:
                    return None
                counters += 1
                if counters > MAX_VALUES:
                    return None
                if number < len(names):
                    value = (names[number], *text.split(SEPARATOR))
                    weights[value] = weight
                    if value[0] == ITEM:
                        total += weight
    except IndexError:
        return None
    return ClassCounters(weights, total, float(int.from_bytes(raw[:_LANDMARK], "little") * UNIT_S))


def items_in(raw: bytes, item_number: int, most: int) -> tuple[list[tuple[float, int, int]], int]:
    """Return the items in the bytes of a class, the heaviest first, and how many counters were looked at: see `item_text`.

    Each item is its weight, and from where to where its counter goes. item_number: the number of the items' field. most: counters
    to look at. What is unsound ends the list.
    """
    found: list[tuple[float, int, int]] = []
    at, end, seen, sizes, weights = _LANDMARK, len(raw), 0, _SIZES, _WEIGHTS
    first, last = 32 * item_number, 32 * item_number + 31
    left = q = 0
    try:
        while at < end:
            if not left:
                if seen >= most:
                    break
                left, q, at = 1, raw[at] | raw[at + 1] << 8, at + 2
                if q >= _MANY:
                    left, q, at = raw[at], q - _MANY, at + 1
                    if not left:
                        continue
            head = raw[at]
            size = sizes[head] or _long_size(raw, at)
            if first <= head <= last and size > 1 and at + size <= end:
                found.append((weights[q], at, at + size))
            at += size
            left -= 1
            seen += 1
    except IndexError:
        pass
    return found, seen


def _long_size(raw: bytes, at: int) -> int:
    """Return the bytes of a counter with a long text, or of a field from 7 on."""
    code, before = raw[at] & 31, 2 if raw[at] >= _OTHER_FIELD << 5 else 1
    if code == _LONG:
        return before + 2 + (raw[at + before] | raw[at + before + 1] << 8)
    return before + (0 if code == _LEFT_OUT else code - (_LEFT_OUT if code > _LEFT_OUT else 0))


def item_text(raw: bytes, start: int, end: int) -> str:
    """Return the id of an item whose counter goes from `start` to `end`; the field's number is below 7."""
    code = raw[start] & 31
    if code > _LEFT_OUT:
        return str(int.from_bytes(raw[start + 1 : end], "little"))
    return raw[start + (3 if code == _LONG else 1) : end].decode("utf-8", "replace")


def _counter(number: int, text: str) -> bytes:
    head = bytes((number << 5,)) if number < _OTHER_FIELD else bytes((_OTHER_FIELD << 5, number))
    if text.isascii() and text.isdecimal() and text[0] != "0" and len(text) <= _MAX_NUMBER_DIGITS:
        whole = int(text)
        size = (whole.bit_length() + 7) // 8
        code, value = _LEFT_OUT + size, whole.to_bytes(size, "little")
    else:
        value = text.encode()
        code = len(value)
        if code > _LONGEST:
            code, value = _LONG, _SHORT.pack(len(value)) + value
    return bytes((head[0] | code,)) + head[1:] + value


def first_unpacked(raw: bytes | None) -> ClassCounters | None:
    """Return the counters in the value of a class in the layout before, or None where there are none or it is unsound.

    A head of three doubles after the format's byte, landmark, time of the latest event and total; then of each value its weight (a
    double), the length of its member (2 bytes) and the member.
    """
    if not raw or not _HEAD.size <= len(raw) <= _HEAD.size + MAX_VALUES * (_WEIGHED.size + MAX_MEMBER_BYTES):
        return None
    form, *numbers = _HEAD.unpack_from(raw)
    landmark_s, last_event_s, total = map(sound, numbers)
    if form != FIRST_FORMAT or landmark_s is None or last_event_s is None or total is None:
        return None
    weights: dict[Value, float] = {}
    at = _HEAD.size
    while at < len(raw):
        if at + _WEIGHED.size > len(raw):
            return None
        weight, size = _WEIGHED.unpack_from(raw, at)
        at += _WEIGHED.size
        if at + size > len(raw):
            return None
        value = value_of(raw[at : at + size])
        if value is not None and sound(weight) is not None and len(weights) < MAX_VALUES:
            weights[value] = weight
        at += size
    return ClassCounters(weights, total, landmark_s, last_event_s)
