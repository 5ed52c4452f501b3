"""Merge of the legs into one page: the baseline's envelope, the personalized leg's order, exploration hits in the slots.

A page is merged[from : from + size] of one merged list. The list has the personalized hits in order, without those that an earlier
slot has shown, and the drawn hit at each slot. Two hits are the same if index, id and routing are equal; under `collapse`, if their
group is equal. Documents without the collapse field form one group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rewriter.alike import alike
from rewriter.explore.plan import Drawn
from rewriter.explore.scores import Hit, identity, number_of, score_of
from rewriter.explore.shown import hit_hash
from rewriter.explore.slots import Candidate, Draw, Key, draws, slot_positions
from rewriter.record import record


@record(frozen=True, slots=True)
class Page:
    """One page.

    hits:  its hits in order.
    slots: all slots decided up to the page's end, by position.
    shown: the exploration hits on this page: index into `hits`, and the slot.
    teams: of an interleaved page, the team of each hit.
    """

    hits: tuple[Hit, ...]
    slots: tuple[Drawn, ...]
    shown: tuple[tuple[int, Drawn], ...]
    teams: str = ""


def hit_key(collapse_field: str | None) -> Callable[[Hit], Key]:
    """Return the function that computes a hit's key: its identity, or its group under `collapse`."""
    if collapse_field is None:
        return identity

    def group(hit: Hit) -> Key:
        values = (hit.get("fields") or {}).get(collapse_field)
        return ("", "") if not values else ("group", repr(values))

    return group


def category(hit: Hit, field: str | None) -> str | None:
    """Return the category of a hit: its `_source` value of the dotted `field`, or None if there is none."""
    if field is None:
        return None
    part: Any = hit.get("_source")
    if type(part) is dict and "." not in field:
        value = part.get(field)
        return None if value is None else str(value)
    for name in field.split("."):
        part = part.get(name) if isinstance(part, dict) else None
    return None if part is None else str(part)


def candidates_of(hits: Sequence[Hit], collapse_field: str | None, category_field: str | None) -> tuple[Candidate, ...]:
    """Return the hits of an exploration leg as candidates for slots; of hits with one key, the last."""
    by_key = dict(zip(map(hit_key(collapse_field), hits), hits, strict=True))
    return tuple(
        [
            Candidate(key, score_of(hit) or 0.0, category(hit, category_field), partial(_same, hit))
            for key, hit in by_key.items()
        ]
    )


def _same(hit: Hit) -> Hit:
    return hit


def merged_page(
    *,
    personalized: Sequence[Hit],
    pool: Sequence[Candidate],
    decided: Sequence[Drawn],
    from_: int,
    size: int,
    block: int,
    seed: int,
    collapse_field: str | None,
    category_field: str | None,
    shown_elsewhere: frozenset[bytes] | None = None,
) -> Page:
    """Return the page [from_, from_ + size) of the merged list.

    personalized: the personalized leg's hits from rank 0 to from_ + size.
    pool:         the exploration leg's hits, best first; empty if there are none. Their keys are by `collapse_field`.
    decided:      the slots of earlier pages.
    block:        positions per slot; 0 for no exploration.
    seed:         of the list's draws.
    shown_elsewhere: hashes of the hits on the list's other pages, if one of those pages was not cut from this order; this page then
                  shows the best hits that are not among them.
    Undecided slots before the page stay without exploration for good; those on the page are drawn now.
    """
    key_of = hit_key(collapse_field)
    end = from_ + size
    if shown_elsewhere:
        personalized = [hit for hit in personalized if hit_hash(key_of(hit)) not in shown_elsewhere]
        pool = [one for one in pool if hit_hash(one.key) not in shown_elsewhere]
    before = {slot.position: slot for slot in decided}
    on_personal = [key_of(hit) for hit in personalized]
    # With the hits of other pages removed, the list begins at this page.
    first, last = (from_, end) if shown_elsewhere is None else (0, size)
    taken = {slot.key for slot in decided if slot.key is not None}
    open_slots = [position for position in slot_positions(0, end, block) if position not in before]
    now = [position for position in open_slots if position >= from_]
    # Hits that the personalized list shows up to the page's end cannot be exploration, nor can those of earlier slots.
    excluded = taken.union(on_personal[:last])
    drawn: dict[int, Draw] = {}
    if now and pool:
        candidates = [one for one in pool if one.key not in excluded]
        seen = [category(hit, category_field) for hit in personalized[first:last]]
        drawn = {draw.position: draw for draw in draws(now, candidates, seen, seed)}
    for position in open_slots:
        draw = drawn.get(position)
        before[position] = Drawn(position, draw.key, draw.propensity) if draw else Drawn(position, None)
    slots = tuple(before[position] for position in sorted(before))
    return _laid_out(
        personalized, on_personal, {one.key: one.hit for one in pool}, slots, from_, end, begins=from_ - first
    )


def _laid_out(
    personalized: Sequence[Hit],
    keys: Sequence[Key],
    by_key: Mapping[Key, Callable[[], Hit]],
    slots: tuple[Drawn, ...],
    from_: int,
    end: int,
    begins: int,
) -> Page:
    """Lay out hits and slots from position `begins`, and cut the page [from_, end)."""
    # A slot before the page keeps its position even if the pool has lost its hit; on this page a lost hit is not shown.
    # With a record of the other pages (begins == from_) their slots do not count: a drawn hit may not have been shown there.
    inserted = {
        slot.position: slot
        for slot in slots
        if slot.key is not None and begins <= slot.position < end and (slot.position < from_ or slot.key in by_key)
    }
    explored = {slot.key for slot in inserted.values()}
    different: dict[Key, Hit] = {}  # a hit that the leg repeats appears once
    for key, one in zip(keys, personalized, strict=True):
        different.setdefault(key, one)
    remaining = iter([hit for key, hit in different.items() if key not in explored])
    hits: list[Hit] = []
    shown: list[tuple[int, Drawn]] = []
    for position in range(begins, end):
        slot = inserted.get(position)
        hit = next(remaining, None) if slot is None or slot.key is None else by_key.get(slot.key, dict)()
        if hit is None:
            break
        if position < from_:
            continue
        if slot is not None:
            shown.append((len(hits), slot))
        hits.append(hit)
    return Page(tuple(hits), slots, tuple(shown))


def with_hits(answer: Mapping[str, Any], hits: Sequence[Hit], max_score: Any = None) -> Any:
    """Return a copy of the baseline's answer, in its own class, with the page's hits; everything else stays the baseline's.

    max_score: the personalized leg's `max_score`, which holds for the whole list, so that a later page's is not below the first
               one's. A drawn hit may exceed it.
    `answer` is not modified.
    """
    envelope = dict(answer["hits"])
    envelope["hits"] = list(hits)
    if "max_score" in envelope:
        scores = [score for score in (max_score, *(hit.get("_score") for hit in hits)) if number_of(score) is not None]
        envelope["max_score"] = max(scores, key=float, default=None)
    return alike(answer, {**answer, "hits": alike(answer["hits"], envelope)})
