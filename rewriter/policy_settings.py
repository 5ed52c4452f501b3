"""Settings of one policy: how the searches on some indices are personalized, its signal fields, and its draft on trial."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator

from rewriter.settings_types import Millis, Seconds, Section, Share, listed

TemplatesName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$")]
Weight = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
PseudoCount = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


def _pattern(name: str) -> str:
    """Return a pattern of index names. Raises ValueError for one that no index of a search can match."""
    if not name or name.startswith("-") or re.search(r"[\s,]", name):
        raise ValueError('is no index, alias or pattern; several are written as ["products-*", "books"]')
    return name


Names = Annotated[tuple[Annotated[str, AfterValidator(_pattern)], ...], BeforeValidator(listed), Field(min_length=1)]
RESERVED = frozenset({"item", "neighbour"})
"""Names of signal fields that no policy may give to one of its own."""
OTHERWISE_MEANT = frozenset({"rewriter", "switches"})
"""Words that mean all policies where a switch is written."""


def _policy_name(name: str) -> str:
    """Return a policy's name if switches, variables, labels and files can hold it. Raises ValueError."""
    is_plain = re.fullmatch(r"\w[\w.-]{0,63}", name) is not None and any(map(str.isalnum, name))
    if not is_plain or unicodedata.normalize("NFKC", name) != name or name.casefold() in OTHERWISE_MEANT:
        raise ValueError(
            "a policy's name is 1–64 letters, digits, _ . or -, neither of the last two first, and not 'rewriter' or 'switches'"
        )
    return name


PolicyName = Annotated[str, AfterValidator(_policy_name)]


class FieldSettings(Section):
    """One signal field: an attribute (one document field) or a combination (several, all of which must match).

    of:           the document's fields, keyword or numeric; by default the field of the same name.
    scale:        the boost of a full affinity; 0.3 turns an affinity of 1 into a factor of 1.3.
    half_life_s:  half-life in seconds of the profile's counts; by default the scope's.
    pseudo_count: weight of the population's taste, in counts, against the subject's own counts.
    """

    of: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(listed)] = ()
    scale: Weight = 0.3
    half_life_s: Seconds | None = None
    pseudo_count: PseudoCount | None = None


class TrialSettings(Section):
    """A draft on trial: a second template set of a policy, served to named subjects alone, beside the live one.

    version:  the template set on trial: a folder beside the live one's.
    subjects: the user_id or session_id of each subject that is served the draft. They are never shown or logged.
    header:   on one's own machine: a search that carries this request header is served the draft.
    """

    version: TemplatesName
    subjects: Annotated[tuple[SecretStr, ...], BeforeValidator(listed)] = ()
    header: Annotated[str, AfterValidator(str.lower), Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = None

    @model_validator(mode="after")
    def _serves_somebody(self) -> Self:
        if not self.subjects and self.header is None:
            raise ValueError("serves nobody: name subjects, or a header")
        return self


class PolicySettings(Section):
    """The personalization of the searches on some indices. A policy must match every index that a search names.

    all_words: boosts act only on hits that hold every word of the query, where that is certain (`rewriter.boost.all_words`).
    class_field: the document's field that names an item's class (category, product type, genre); the same in all policies.
    item_use: "again" boosts items that somebody used before, where people use items again; "once" all others, where they do not;
        "auto" does either, by what was counted (`signals.item_use`).
    item_repeat_share: how often people use an item again, in [0, 1]; by default it is counted, by class (`signals.repeats`).
    discovery: from 0, the best ranking of all items, to 1, which spares those that are new to a subject: the share of
        `neighbour_scale` that boosts neighbours of items used before (`signals.neighbours`); `rewriter backfill` finds them.
    mode: "parallel" sends the caller's own search at once, and legs beside it; "rewrite" sends one search with boosts in it.
    hedge_ms: in `rewrite`, after how many ms the caller's own search is sent too; by default the 95th percentile of recent
    searches.
    hedge_share: the share of rewritten searches that may be hedged.
    parallel_share: the share of searches that go parallel in `rewrite`, so that both rankings are known and time added is measured.
    named_share: the share of searches whose boosts the server names, so that it is known which of them act on which hit.
    rewritten_by: the client that sends rewritten searches: the rewriter's own, without retries, or the caller's.
    exploration_fresh_s: for how long a pool of exploration hits serves everyone who sends the same search.
    exploration_stale_s: for how long it serves while the search that finds it stale fetches another; only in `rewrite`.
    exploration_wait: in `rewrite`, whether a page waits for its pool where nobody has sent the same search lately.
    exploration_shared_by: who may be shown hits that another one's search brought: everyone who sends the same search, those of
        the same segments, or the same subject. Needed where the client decides by itself, from its context, whose search it is.
    """

    index: Names
    mode: Literal["parallel", "rewrite"] = "parallel"
    hedge_ms: Millis | None = None
    hedge_share: Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)] = 0.05
    parallel_share: Share = 0.01
    named_share: Share = 0.1
    rewritten_by: Literal["rewriter", "caller"] = "rewriter"
    templates: TemplatesName = "default"
    max_boost: Annotated[float, Field(gt=1, le=10, allow_inf_nan=False)] = 1.5
    strategy: Literal["auto", "rescore", "wrap"] = "auto"
    flat: Literal["personalize", "baseline"] = "personalize"
    browse: bool = False
    exploration_share: Annotated[float, Field(ge=0, le=0.2, allow_inf_nan=False)] = 0.15
    exploration_pool: Annotated[int, Field(ge=1, le=200)] = 20
    exploration_shared_by: Literal["everyone", "segments", "subject"] = "everyone"
    exploration_fresh_s: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = 5.0
    exploration_stale_s: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = 15.0
    exploration_wait: bool = True
    max_depth: Annotated[int, Field(ge=1, le=200)] = 50
    window_size: Annotated[int, Field(ge=10, le=10_000)] = 200
    max_functions: Annotated[int, Field(ge=1, le=128)] = 32
    all_words: bool = True
    class_field: str | None = None
    category_field: str | None = None
    date_field: str | None = None
    item_field: str | None = "_id"
    item_use: Literal["again", "once", "auto"] = "again"
    item_repeat_share: Share | None = None
    item_scale: Weight = 1.2
    item_half_life_s: Seconds | None = None
    item_pseudo_count: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] = 2.0
    discovery: Share = 0.0
    neighbour_scale: Weight = 0.45
    neighbour_pseudo_count: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] = 0.03
    saturation: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 4.0
    fields: dict[str, FieldSettings] = {}  # noqa: RUF012  pydantic copies it
    trial: TrialSettings | None = None

    @field_validator("exploration_share")
    @classmethod
    def _off_or_between_a_tenth_and_a_fifth(cls, share: float) -> float:
        if share and share < 0.1:
            raise ValueError("must be 0 (off) or lie in [0.1, 0.2]")
        return share

    @field_validator("fields")
    @classmethod
    def _field_names(cls, fields: dict[str, FieldSettings]) -> dict[str, FieldSettings]:
        if wrong := [name for name in fields if name in RESERVED or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name)]:
            raise ValueError(
                f"{', '.join(map(repr, wrong))}: a field's name is 1–64 of A–Z a–z 0–9 _ . -, and not 'item' or 'neighbour'"
            )
        return {name: field if field.of else field.model_copy(update={"of": (name,)}) for name, field in fields.items()}

    @model_validator(mode="after")
    def _nothing_contradicts(self) -> Self:
        if wrong := "; ".join(self._contradictions()):
            raise ValueError(wrong)
        return self

    def _contradictions(self) -> Iterator[str]:
        if self.discovery and not (self.class_field and self.item_field):
            missing = "class_field" if not self.class_field else "item_field"
            yield f"discovery {self.discovery:g} boosts neighbours, items of one class: set {missing}, or discovery = 0"
        if self.exploration_stale_s < self.exploration_fresh_s:
            yield (
                f"exploration_stale_s {self.exploration_stale_s:g} must not be below "
                f"exploration_fresh_s {self.exploration_fresh_s:g}"
            )
        if self.max_depth > self.window_size:
            yield f"max_depth {self.max_depth} must not exceed window_size {self.window_size}"
        if self.trial is not None and self.trial.version == self.templates:
            yield f"trial.version {self.trial.version!r} is the live template set; name the draft's"

    @property
    def has_neighbours(self) -> bool:
        """Whether searches boost neighbours of the items that a subject used."""
        return self.discovery > 0.0

    def matches(self, indices: tuple[str, ...]) -> bool:
        """Whether one of this policy's patterns matches each of `indices`."""
        return bool(indices) and all(any(fnmatchcase(index, pattern) for pattern in self.index) for index in indices)
