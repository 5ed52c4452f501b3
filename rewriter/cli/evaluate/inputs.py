"""Inputs of `rewriter evaluate` and `rewriter tune`: the history, the search template, facts of the judged documents."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import TimeRemainingColumn

from rewriter.cli.causes import cause_of
from rewriter.cli.progress import progress_bars
from rewriter.cli.titles import likely_titles
from rewriter.client.seam import SearchClient
from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate.bodies import SENTINEL
from rewriter.evaluate.judged import JudgedSearch
from rewriter.evaluate.variants import Variant
from rewriter.expression import parsed_indices
from rewriter.plural import agreeing, count_of
from rewriter.settings import Settings
from rewriter.signals.ingest.objects import Objects

if TYPE_CHECKING:
    from rewriter.evaluate.past import Past

TIMEOUT_S = 120.0
CONNECTIONS = 4
UNITS_S = {"h": 3_600.0, "d": 86_400.0, "w": 7 * 86_400.0}
IDS_AT_ONCE = 1_000


class Inputs:
    """The inputs of an evaluation. index: the index of searches that name none.

    Raises ConfigurationError for a policy that does not match the index: it would personalize nothing.
    """

    def __init__(
        self,
        client: SearchClient,
        settings: Settings,
        variants: Sequence[Variant],
        history: Sequence[Path],
        body: Path | None,
        index: str,
    ) -> None:
        self._client = client
        self._settings = settings
        self._variants = variants
        self._history = history
        self._body = body
        self.index = self._index = index or ",".join(variants[0].policy.index)
        names = parsed_indices(self.index)
        faults = [
            Fault(
                f"policy {one.name}",
                f"does not match {self.index}, which is searched",
                f"to search what it matches, add --index {','.join(one.policy.index)}; --policy chooses others",
            )
            for one in variants
            if not one.of and not one.policy.matches(names)
        ]
        if faults:
            raise ConfigurationError(faults)

    def past(self, title: str, on_progress: Callable[[int, int], None]) -> Past:
        """Return the history. title: a document field to read besides those of signals, or ""."""
        from rewriter.evaluate.past import read_past  # noqa: PLC0415  with the extra

        every = self._settings.model_copy(
            update={"policies": {f"p{at}": one.policy for at, one in enumerate(self._variants)}}
        )
        return read_past(
            [str(one) for one in self._history], every, [title] if title else [], self._objects, on_progress
        )

    def _objects(self, attributes: Collection[str]) -> Objects:
        ingest = self._settings.ingest
        indices = ingest.objects_index or self._index.split(",")
        return Objects(
            self._client, indices, attributes, max_objects=1, max_bytes=2**20, age_s=1.0, clock_s=time.monotonic
        )

    def title_field(self, given: str) -> str:
        """Return the field that replaces a missing query: the given one, else a likely one of the index, else ""."""
        if given:
            return given
        mappings = self._client.get_mapping(self._index, {}, TIMEOUT_S)
        there = {path for one in mappings.values() for path in _paths(one["mappings"].get("properties", {}))}
        return next((name for name in likely_titles(self.rendered()) if name in there), "")

    def rendered(self) -> Mapping[str, Any] | None:
        """Return the search template's body for SENTINEL, None without a template. Raises ConfigurationError."""
        if self._body is None:
            return None
        try:
            text = self._body.read_text("utf-8-sig")
            found = self._client.render_template(text, {"query": SENTINEL}, TIMEOUT_S)["template_output"]
        except UnicodeDecodeError:
            raise ConfigurationError([Fault(str(self._body), "is not UTF-8")]) from None
        except self._client.errors as error:
            fault = self._client.fault_of(error)
            raise ConfigurationError(
                [
                    Fault(
                        str(self._body),
                        f"the server renders no body of it: {cause_of(error, fault)}",
                        'write "{{query}}"',
                    )
                ]
            ) from None
        if not isinstance(found, dict):
            raise ConfigurationError([Fault(str(self._body), "is not a search body")])
        return found

    def unknown_ids(self, searches: Sequence[JudgedSearch]) -> list[str]:
        """Return a warning for judged documents that the index lacks. Raises ConfigurationError if it has none of them."""
        ids = sorted({one for search in searches for one in search.relevant})
        there = 0
        for start in range(0, len(ids), IDS_AT_ONCE):
            body = {"query": {"ids": {"values": ids[start : start + IDS_AT_ONCE]}}, "size": 0, "track_total_hits": True}
            found = self._client.body_of(self._client.raw.search(index=self._index, body=body))
            there += found["hits"]["total"]["value"]
        if ids and not there:
            what = f"none of the {count_of(len(ids), 'judged document')} is in {self._index}"
            raise ConfigurationError([Fault("judgments", what, "are they `_id`s of this index?")])
        missing = len(ids) - there
        return (
            [f"{missing:,} of {count_of(len(ids), 'judged document')} {agreeing(missing, 'are')} not in the index"]
            if missing > 0
            else []
        )


def _paths(properties: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield the paths of a mapping's document fields. Sub-fields are left out: no document has them."""
    for name, one in properties.items():
        if "properties" in one:
            yield from _paths(one["properties"], f"{above}{name}.")
        else:
            yield f"{above}{name}"


def window_s(text: str | None, option: str) -> float | None:
    """Return a window such as 4w, 10d or 12h in seconds, None for None. Raises ConfigurationError."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,4})([hdw])", text)
    if found is None or int(found[1]) < 1:
        raise ConfigurationError([Fault(f"{option} {text}", "is not a window", "write 4w, 10d or 12h")])
    return int(found[1]) * UNITS_S[found[2]]


@contextmanager
def progress() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Yield a function that adds a progress bar; the bar is updated with the amount done and the total."""
    with progress_bars(TimeRemainingColumn()) as shown:

        def line(name: str) -> Callable[[int, int], None]:
            task = shown.add_task(name, total=None)
            return lambda done, total: shown.update(task, completed=done, total=total)

        yield line
