"""The text of a `rewriter.toml` with the choices for one index, each with its reason in a comment. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from rewriter.cli.action_weights import DEFAULTS_SERVE, WeightChoice, as_toml
from rewriter.cli.init.choices import Choices, LeftOut
from rewriter.cli.init.facets import setting_name
from rewriter.cli.init.fields import texts_without_keyword
from rewriter.cli.init.figures import plain
from rewriter.cli.init.index_profile import IndexProfile
from rewriter.cli.init.set_choice import SetChoice
from rewriter.cli.init.template_sets import SetSettings
from rewriter.client.registry import DEFAULT
from rewriter.plural import count_of
from rewriter.policy_settings import RESERVED
from rewriter.settings import PolicySettings
from rewriter.toml_text import quoted

WIDTH = 110
MAX_LISTED = 12
SCHEMA_FILE = "rewriter.schema.json"
COMBINED = (
    "A combination boosts only where a visitor showed the taste: a maker of shoes for shoes, not for shirts. Each pair of values"
    " takes one of the counters that a visitor has (`[signals] max_counters`), so compare before you turn it on."
)
AGAIN = (
    "Items that a visitor used before are boosted where people use items again, which ingest and backfill count; `rewriter status`"
    " shows it. item_scale = 0 never boosts them."
)
ONCE = (
    "What a visitor has not used yet is boosted, since people use items once; ingest and backfill count it, and `rewriter status`"
    " shows it. item_scale = 0 boosts no item."
)
AUTO = (
    "Items that a visitor used before are boosted where people use items again, and those that they did not use where people do"
    " not: ingest and backfill count it, and `rewriter status` shows it. Until enough is counted neither is. item_scale = 0 boosts"
    " no item."
)
WITHIN = (
    "An attribute within its class boosts only where a visitor showed the taste: a maker of shoes for shoes, not for shirts. On one"
    " shop it gained a little, on another and on films it lost, so your own history decides: without the # it is counted and boosts"
    " nothing, and `rewriter tune` proposes a scale above 0 only if a later window of the history confirms the gain."
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The parts of the settings beside the index: the addresses of the cluster and the store without credentials, and the user.

    day: the day of writing, in ISO 8601. client: the client library.
    """

    cluster: str
    store: str
    server: str
    policy: str
    indices: tuple[str, ...]
    day: str
    username: str = ""
    store_has_secret: bool = False
    client: str = DEFAULT
    weights: WeightChoice = DEFAULTS_SERVE


def settings_text(
    profile: IndexProfile, choices: Choices, around: Surroundings, chosen: SetChoice, own: SetSettings
) -> str:
    """Return the file's text, which ends with a line break. own: the settings of the template set that was chosen."""
    parts = [
        _head(profile, around),
        _connections(around),
        _trial(),
        _signals(own, around.weights),
        _policy(profile, choices, around, chosen, own),
        _facets(choices, around, chosen, own),
        _possible(choices, around, own),
        _left_out(profile, choices),
    ]
    blocks = ["\n".join(part) for part in parts]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _comment(text: str) -> Iterator[str]:
    for line in wrap(text, WIDTH - 2, break_long_words=False, break_on_hyphens=False):
        yield f"# {line}"


def _head(profile: IndexProfile, around: Surroundings) -> Iterator[str]:
    yield f"#:schema ./{SCHEMA_FILE}"
    figures = count_of(profile.documents, "document")
    if profile.measured < profile.documents:
        figures += f", of which {profile.measured:,} were drawn at random for the figures below"
    yield from _comment(
        f"Settings of rewriter for {plain(profile.expression)}: {behind(profile)}, {figures}."
        f" Written by `rewriter init` on {around.day} from {around.server} at {around.cluster}."
    )
    yield from _comment(
        "`rewriter check` tests this file on the index, `rewriter settings` prints every setting with its default."
        " A variable such as REWRITER_STORE__URL wins over the file."
    )
    yield ""
    yield f'templates_dir = "templates"  # the template set of this policy is templates/{around.policy}'


def behind(profile: IndexProfile) -> str:
    """Return as a phrase what an index expression stands for."""
    if profile.indices == (profile.expression,):
        return "one index"
    kind = "a data stream of" if profile.is_data_stream else "a name for"
    return f"{kind} {count_of(len(profile.indices), 'index')}"


def _connections(around: Surroundings) -> Iterator[str]:
    yield "[opensearch]"
    if around.client != DEFAULT:
        yield f"client = {quoted(around.client)}"
    yield f"hosts = [{quoted(around.cluster)}]"
    if around.username:
        yield f"username = {quoted(around.username)}"
        yield "# The password is in no file: set REWRITER_OPENSEARCH__PASSWORD."
    yield ""
    yield "[store]"
    if around.store_has_secret:
        yield "# Signals are kept in Redis or Valkey. The URL holds a password, so set REWRITER_STORE__URL to it."
        yield f"# url = {quoted(around.store)}"
    else:
        yield "# Signals are kept in this Redis or Valkey."
        yield f"url = {quoted(around.store)}"


def _trial() -> Iterator[str]:
    yield "[budget]"
    yield from _comment(
        "A search waits at most 10 ms for signals, and at most 30 ms after its own answer. A laptop that also runs the servers is"
        " often slower; while you try it out, set REWRITER_BUDGET__SIGNALS_MS=100 and REWRITER_BUDGET__CUTOFF_MS=1000."
    )
    yield "signals_ms = 10"
    yield "cutoff_ms = 30"
    yield ""
    yield "[experiment]"
    yield from _comment(
        "One visitor in twenty keeps the page of today (reason `holdout`), so that the effect can be measured."
        " 0 personalizes everybody."
    )
    yield "holdout = 0.05"


def _signals(own: SetSettings, weights: WeightChoice) -> Iterator[str]:
    if own.signals or weights.weights is not None:
        yield "[signals]"
    if own.signals:
        yield from _comment("These belong to the template set.")
        yield from (f"{key} = {toml_value(value)}" for key, value in own.signals.items())
    if weights.weights is not None:
        yield from _comment(weights.why)
        yield f"action_weights = {as_toml(weights.weights)}"


def toml_value(value: Any) -> str:
    """Return a setting of a template set as TOML writes it. Sets have texts, numbers and truth values alone."""
    return quoted(value) if isinstance(value, str) else str(value).lower()


def _policy(
    profile: IndexProfile, choices: Choices, around: Surroundings, chosen: SetChoice, own: SetSettings
) -> Iterator[str]:
    settings = {"max_boost": 1.5, "exploration_share": 0.15, **own.policy}
    yield f"[policies.{around.policy}]"
    yield from _comment("The names that searches use: an index, an alias, a data stream or a pattern.")
    yield f"index = [{', '.join(map(quoted, around.indices))}]"
    yield from _comment(
        f"A copy of the shipped template set `{chosen.name}`, {own.about}. The reasons for this choice:"
    )
    for why in chosen.why:
        yield from _comment(f"- {why}")
    yield f"templates = {quoted(around.policy)}"
    yield from _comment("No score is ever multiplied by more than this.")
    yield f"max_boost = {toml_value(settings['max_boost'])}"
    share = 0 if chosen.unexplored else settings["exploration_share"]
    if share:
        yield from _comment(
            f"About one hit in {round(1 / share)} is drawn from hits of the same search that are not personalized. 0 turns that"
            " off."
        )
    else:
        yield from _comment(
            f"No hits are drawn from those of the same search that are not personalized (0; else 0.1 to 0.2), since"
            f" {chosen.unexplored}. `rewriter tune` finds what your own history gains."
        )
    yield f"exploration_share = {toml_value(share)}"
    if settings.get("browse"):
        yield from _comment("Searches without words, such as category pages, are personalized too.")
        yield "browse = true"
    yield from _windows(profile)
    yield ""
    yield from _field("category_field", "The class of a document: exploration first draws hits whose class the page lacks.",
                      choices.category.field, choices.category.why)  # fmt: skip
    yield ""
    yield from _field("date_field", "The date of a listing: the exploration template prefers what is new.",
                      choices.date.field, choices.date.why)  # fmt: skip
    yield ""
    yield from _field(
        "class_field", "The class by which items are counted.", chosen.class_field.field, chosen.class_field.why
    )
    yield ""
    item = choices.item
    yield from _comment(f"The id of an item. {plain(item.field)}: {item.why}.")
    yield f"item_field = {quoted(item.field)}"
    if not item.is_boosted:
        yield "item_scale = 0"
        return
    use = settings.get("item_use", "again")
    yield from _comment({"once": ONCE, "auto": AUTO}.get(use, AGAIN))
    if use != "again":
        yield f"item_use = {quoted(use)}"
    yield f"item_scale = {toml_value(settings.get('item_scale', PolicySettings(index=('x',)).item_scale))}"


def _windows(profile: IndexProfile) -> Iterator[str]:
    """Yield the window's settings if the index allows less than the default."""
    default = PolicySettings(index=("x",))
    allowed = profile.facts.max_rescore_window
    if allowed >= default.window_size:
        return
    yield from _comment(
        f"The index allows no larger window (max_rescore_window); the default is {default.window_size}."
    )
    yield f"window_size = {max(allowed, 10)}"
    if allowed < default.max_depth:
        yield f"max_depth = {max(allowed, 10)}"


def _field(key: str, meaning: str, field: str, why: str) -> Iterator[str]:
    if field:
        yield from _comment(f"{meaning} {plain(field)}: {why}.")
        yield f"{key} = {quoted(field)}"
    else:
        yield from _comment(f"{meaning} None was chosen: {why}.")
        yield f'# {key} = "…"'


def _facets(choices: Choices, around: Surroundings, chosen: SetChoice, own: SetSettings) -> Iterator[str]:
    yield from _comment(
        "Signal fields: what of a document is counted when a visitor views or buys it. `scale` is the boost of a full affinity:"
        " 0.3 multiplies a score by 1.3."
    )
    if not choices.facets:
        yield from _comment(
            "No field was chosen: none has values that several documents share. Items alone are counted."
        )
    for facet in choices.facets:
        yield ""
        yield from _comment(f"{plain(facet.field)}: {facet.why}")
        yield from _table(facet.name, (facet.field,), around, own.attribute)
    if choices.combination:
        yield ""
        by_class = chosen.class_field.field == choices.combination[0].field
        yield from _comment(WITHIN if by_class else COMBINED)
        one, other = choices.combination
        taken = {*RESERVED, *(facet.name for facet in choices.facets)}
        name = setting_name(f"{one.name}_{other.name}", taken)
        settings = {**own.within, "scale": 0} if by_class else own.within
        yield from _disabled(_table(name, (one.field, other.field), around, settings))


def _table(name: str, of: Sequence[str], around: Surroundings, settings: Mapping[str, Any]) -> Iterator[str]:
    yield f"[policies.{around.policy}.fields.{name}]"
    yield f"of = [{', '.join(map(quoted, of))}]"
    yield from (f"{key} = {toml_value(value)}" for key, value in settings.items())


def _disabled(lines: Iterator[str]) -> Iterator[str]:
    yield from (f"# {line}" for line in lines)


def _possible(choices: Choices, around: Surroundings, own: SetSettings) -> Iterator[str]:
    possible = [one for one in choices.left_out if one.is_possible]
    if not possible:
        return
    yield from _comment(
        "Fields that were left out, though a boost can act on them. To count one, remove the # of its lines."
    )
    taken = {*RESERVED, *(facet.name for facet in choices.facets)}
    for one in possible[:MAX_LISTED]:
        name = setting_name(one.field, taken)
        taken.add(name)
        yield "#"
        yield from _comment(f"{plain(one.field)}: {one.why}")
        yield from _disabled(_table(name, (one.field,), around, own.attribute))
    yield from _more(possible)


def _left_out(profile: IndexProfile, choices: Choices) -> Iterator[str]:
    rest: list[LeftOut] = [one for one in choices.left_out if not one.is_possible]
    texts = texts_without_keyword(profile.facts.fields)
    if rest:
        yield from _comment("Fields that cannot be used:")
    for one in rest[:MAX_LISTED]:
        yield from _comment(f"- {plain(one.field)}: {one.why}")
    yield from _more(rest)
    if texts:
        shown = ", ".join(map(plain, texts[:MAX_LISTED])) + (", …" if len(texts) > MAX_LISTED else "")
        yield from _comment(
            f"- Texts without a keyword beside them: {shown}. A boost compares whole values, so it needs a keyword,"
            " such as a sub-field `keyword`."
        )


def _more(found: Sequence[LeftOut]) -> Iterator[str]:
    if len(found) > MAX_LISTED:
        yield f"# … and {len(found) - MAX_LISTED:,} more."
