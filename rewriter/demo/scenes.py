"""The scenes of the demo, in their order. Each shows one thing, on real searches of the shop."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from statistics import median

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from rewriter.demo.households import Visit
from rewriter.demo.lateness import Lateness
from rewriter.demo.pages import label, print_pages
from rewriter.demo.shop import POLL_S, Explain, Shop, ShownPage
from rewriter.errors import RewriterError
from rewriter.plural import count_of
from rewriter.report import Reason
from rewriter.settings import BudgetSettings
from rewriter.signals.affinities import session_part
from rewriter.subject import Subject

HOUSEHOLDS = 3
QUESTIONS = 150
SEED = 1
CLICKS = (0, 1, 2, 4, 8)
DEADLINE_S = 30.0
SESSION_TTL_S = 3_600


def households(shop: Shop, console: Console, explain: Explain) -> None:
    """A few households, each with the query that it puts most often."""
    for number, visit in enumerate(shop.households.most_loyal(HOUSEHOLDS)):
        found = shop.search(visit.words, Subject(user_id=visit.household_id))
        if number:
            console.print()
        console.print(_asks(visit))
        bought = shop.households.times_bought(visit.household_id)
        print_pages(console, found, shop.names, visit.later, bought, explain)


def many(shop: Shop, console: Console, progress: Progress, explain: Explain) -> None:
    """The same for many households, counted."""
    reasons: Counter[Reason] = Counter()
    bought: Counter[str] = Counter()
    searches: list[ShownPage] = []
    with Lateness() as lateness:
        for visit in progress.track(shop.households.drawn(QUESTIONS, SEED), description="searches"):
            found = shop.search(visit.words, Subject(user_id=visit.household_id))
            searches.append(found)
            reasons[found.report.reason] += 1
            explored = {slot.id for slot in found.report.slots}
            bought["plain"] += sum(hit["_id"] in visit.later for hit in found.plain)
            bought["personalized"] += sum(hit["_id"] in visit.later for hit in found.hits)
            bought["explored"] += len(explored & visit.later)
            bought["slots"] += len(explored)
    waited_ms = [found.report.timings_ms.get("added", 0.0) for found in searches]
    table = _table("", "the shop's own", "the rewriter's")
    table.add_row("hits that the household bought later", f"{bought['plain']}", f"{bought['personalized']}")
    table.add_row(
        "a search, median",
        f"{median(found.plain_ms for found in searches):.1f} ms",
        f"{median(found.whole_ms for found in searches):.1f} ms",
    )
    console.print(table)
    console.print(
        f"{bought['slots']} of the rewriter's hits were exploration; people bought {bought['explored']} of those later."
    )
    console.print(_waits(waited_ms, shop.rewriter.settings.budget.cutoff_ms, lateness.worst_ms))
    console.print(f"Reasons: {_counts(reasons)}")
    for reason in reasons:
        if reason is not Reason.PERSONALIZED:
            console.print(f"{reason} means: {explain(reason)}")


def _asks(visit: Visit) -> Text:
    """Return the line above a page: who searches for what."""
    return Text.assemble((f"Household {visit.household_id}", "bold"), " searches for ", (visit.words, "bold"))


def _waits(waited_ms: list[float], cutoff_ms: float, machine_ms: float) -> str:
    """Return how long pages waited after the shop's own search, beside the bound and this machine's own delays."""
    default_ms = BudgetSettings().cutoff_ms
    beyond = sum(one > default_ms for one in waited_ms)
    text = (
        f"Pages waited {median(waited_ms):.0f} ms in the median after the shop's own search, and {max(waited_ms):.0f} ms at most;"
        f" the demo's bound is {cutoff_ms:g} ms (cutoff_ms)."
    )
    if cutoff_ms > default_ms:
        text += (
            f" A service keeps the default of {default_ms:g} ms. With it, {beyond} of the "
            f"{count_of(len(waited_ms), 'page')} here would"
            " have been the shop's own, since engine, store and shop share one small machine."
        )
    return f"{text} This machine itself kept a thread that only sleeps waiting up to {machine_ms:.0f} ms longer than asked."


def session(shop: Shop, console: Console) -> None:
    """A household in a new session, which clicks on the last two hits of its page again and again."""
    visit = shop.households.most_loyal(HOUSEHOLDS)[-1]
    session_id = uuid.uuid4().hex
    subject = Subject(user_id=visit.household_id, session_id=session_id)
    signals = shop.rewriter.settings.signals
    before = shop.search(visit.words, subject)
    clicked = [hit for hit in before.hits if hit["_id"] not in {slot.id for slot in before.report.slots}][-2:]
    console.print(_asks(visit), " in a new session", sep="")
    for letter, hit in zip("AB", clicked, strict=True):
        console.print(f"{letter}  ", label(hit, shop.names), sep="")
    table = _table("clicks", "source", "the session's part", "A stands at", "B stands at")
    for clicks in CLICKS:
        on = [clicked[number % 2]["_id"] for number in range(clicks)]
        counters = shop.households.clicks(on, signals.action_weights["click"], signals.session_half_life_s)
        if clicks:
            shop.signals.write(shop.keys.session(session_id), counters, SESSION_TTL_S)
        found = shop.search(visit.words, subject)
        positions = {hit["_id"]: at for at, hit in enumerate(found.hits, 1)}
        table.add_row(
            f"{clicks}",
            found.report.source or found.report.reason,
            f"{session_part(clicks, signals):.0%}",
            *(f"{positions.get(hit['_id'], '–')}" for hit in clicked),
        )
    console.print(table)


def unknown(shop: Shop, console: Console) -> None:
    """Visitors of whom little or nothing is known."""
    words = shop.households.most_loyal(1)[0].words
    session_id = uuid.uuid4().hex
    signals = shop.rewriter.settings.signals
    table = _table("visitor", "reason", "source", "page")

    def row(visitor: str, subject: Subject | None) -> ShownPage:
        found = shop.search(words, subject)
        page = "the shop's own" if found.is_plain else "personalized"
        table.add_row(visitor, found.report.reason, found.report.source or "–", page)
        return found

    row("names nobody", None)
    row("known, without consent", Subject(user_id=shop.households.ids[0], consent=False))
    seen = row("never seen before", Subject(user_id=uuid.uuid4().hex, session_id=session_id))
    clicked = seen.hits[-1]["_id"]
    counters = shop.households.clicks([clicked], signals.action_weights["click"], signals.session_half_life_s)
    shop.signals.write(shop.keys.session(session_id), counters, SESSION_TTL_S)
    row("the same, after a first click", Subject(user_id=uuid.uuid4().hex, session_id=session_id))
    console.print(table)


def kill_switch(shop: Shop, console: Console) -> None:
    """The kill switch, thrown and released."""
    visit = shop.households.most_loyal(1)[0]
    table = _table("the file says", "searches say", "after", "page")

    def row(outcome: str, reason: Reason) -> None:
        started_s = time.monotonic()
        found = _until(shop, visit.words, visit.household_id, reason)[-1]
        took_s = time.monotonic() - started_s
        page = "the shop's own" if found.is_plain else "personalized"
        table.add_row(outcome, found.report.reason, f"{took_s:.1f} s", page)

    row("(there is none)", Reason.PERSONALIZED)
    shop.switch_file.write_text("personalization off\n")
    row("personalization off", Reason.SWITCHED_OFF)
    shop.switch_file.unlink()
    row("(taken away)", Reason.PERSONALIZED)
    console.print(table)


def store_away(shop: Shop, console: Console) -> None:
    """The store ends in the middle, and comes back."""
    visits = shop.households.drawn(60, SEED)
    table = _table("the store", "answered", "shop's own", "longest wait", "reasons")
    table.columns[-1].no_wrap = False

    def row(outcome: str, searches: list[ShownPage]) -> None:
        waited_ms = max(found.report.timings_ms.get("added", 0.0) for found in searches)
        answered = f"{sum(bool(found.hits) for found in searches)} of {len(searches)}"
        own = f"{sum(found.is_plain for found in searches)}"
        reasons = _counts(Counter(found.report.reason for found in searches))
        table.add_row(outcome, answered, own, f"{waited_ms:.0f} ms", reasons)

    def searched(count: int) -> list[ShownPage]:
        return [shop.search(visit.words, Subject(user_id=visit.household_id)) for visit in visits[:count]]

    with console.status("searches go on while the store ends and comes back"):
        row("is there", searched(20))
        with shop.valkey.client() as client:
            client.save()  # so that it comes back with what it held
        shop.valkey.stop()
        row("has stopped", searched(60))
        shop.valkey.start()
        started_s = time.monotonic()
        visit = visits[0]
        back = _until(shop, visit.words, visit.household_id, Reason.PERSONALIZED)
        row(f"back for {time.monotonic() - started_s:.1f} s", back)
        row("is there", searched(20))
    console.print(table)


def _until(shop: Shop, words: str, household_id: str, reason: Reason) -> list[ShownPage]:
    """Search until searches give `reason`, and return all of them. Raises RewriterError where they never do."""
    until_s = time.monotonic() + DEADLINE_S
    searches = [shop.search(words, Subject(user_id=household_id))]
    while searches[-1].report.reason is not reason:
        if time.monotonic() > until_s:
            raise RewriterError(f"after {DEADLINE_S:g} s searches still say {searches[-1].report.reason}, not {reason}")
        time.sleep(POLL_S)
        searches.append(shop.search(words, Subject(user_id=household_id)))
    return searches


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def _counts(reasons: Counter[Reason]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
