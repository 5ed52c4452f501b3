"""The demo: what personalized search is, on real searches, in a terminal of 80 columns or more, or into a pipe."""

from __future__ import annotations

import io
import logging
import sys
import time
from contextlib import ExitStack

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.text import Text

from rewriter.demo import scenes
from rewriter.demo.shop import POLICY, Engine, Explain, Shop, opened
from rewriter.plural import count_of

WIDTH = 100
"""Beyond it, pages side by side would stand too far apart. A pipe gets 80 columns, or those of the variable COLUMNS."""
INTRODUCTION = (
    "Complete Journey: a year of purchases, which the package that brings them describes as simulated on real shopping "
    "patterns. What was bought up to week 46 is what the shop knows. What a household really bought in the weeks after is "
    "marked [bold yellow]★[/]. A query is the words of a product type. The data holds no names: those of makers are invented, and "
    "#2 is the second most bought product of its maker and size."
)
OSMEM = (
    "osmem-server stands in for OpenSearch where nothing can be installed: what it shows is real, but its timings say "
    "nothing about a cluster's. `rewriter demo --engine opensearch` runs on the real one."
)
HOUSEHOLDS = (
    "The households with the most purchases, each with the product type that it bought most often, no type twice. "
    "Of each hit: how far it moved, what its score was multiplied by (max_boost at most), and why: it was bought before, or its "
    "maker was. One position in seven is for exploration: a hit of the same search that is not personalized, so that people also "
    "see what they do not know yet, and the shop learns whether they like it. p is the probability with which it was drawn."
)
MANY = (
    f"{scenes.QUESTIONS} households drawn from those that came back after week 46 (seed {scenes.SEED}), each with the "
    "product type that it bought first."
)
SESSION = (
    "What happens in a session blends in as it grows. This visitor clicks on the last two hits of the page, A and B, "
    "in turns."
)
UNKNOWN = "Where nothing is known, or nothing may be used, people get exactly the shop's own page, hit by hit."
KILL_SWITCH = "A line in a file turns personalization off without a deployment. `rewriter switch` writes it."
STORE_AWAY = (
    "The store with all that is known of households ends in the middle. Searches go on: first each one finds that "
    "signals cannot be read, then the breaker opens, and tries again after some seconds."
)


def show(console: Console, engine: Engine, explain: Explain) -> None:
    """Run the demo on a console; `explain` returns what a reason means.

    Raises RewriterError where something is missing, or does not do what it should.
    """
    logging.getLogger("rewriter").addHandler(logging.NullHandler())  # switches and breaker are shown here, not logged
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a pipe may be of an encoding without ★
    console.width = min(WIDTH, console.width)
    started_s = time.monotonic()
    console.print(Text.from_markup(INTRODUCTION))
    with ExitStack() as stack:
        with _working(console) as progress:
            shop = stack.enter_context(opened(engine, progress))
        console.print(_loaded(shop, time.monotonic() - started_s))
        if engine is Engine.OSMEM:
            console.print(OSMEM, style="dim")
        _scene(console, "Households and their queries", HOUSEHOLDS)
        scenes.households(shop, console, explain)
        _scene(console, "The same for many", MANY)
        with _working(console) as progress:
            scenes.many(shop, console, progress, explain)
        _scene(console, "A new session", SESSION)
        scenes.session(shop, console)
        _scene(console, "Unknown visitors", UNKNOWN)
        scenes.unknown(shop, console)
        _scene(console, "The kill switch", KILL_SWITCH)
        scenes.kill_switch(shop, console)
        _scene(console, "The store stops", STORE_AWAY)
        scenes.store_away(shop, console)
    console.print(f"\nDone in {time.monotonic() - started_s:.0f} s; every server is stopped and removed.")
    console.print("Next: `rewriter init --help`, settings for an index of your own.")


def _working(console: Console) -> Progress:
    columns = (TextColumn("{task.description:<12}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _scene(console: Console, title: str, text: str) -> None:
    console.print()
    console.print(Rule(Text(title, "bold"), align="left", style="dim"))
    console.print(f"{text}\n")


def _loaded(shop: Shop, took_s: float) -> str:
    settings = shop.rewriter.settings
    policy = settings.policies[POLICY]
    return (
        f"\n{shop.engine}: {count_of(len(shop.corpus.products), 'product')} · "
        f"Valkey: {count_of(len(shop.households.ids), 'household')} · loaded in {took_s:.0f} s\n"
        f"boosts by item and manufacturer · max_boost {policy.max_boost:g}"
        f" · exploration_share {policy.exploration_share:g} · cutoff_ms {settings.budget.cutoff_ms:g}"
    )
