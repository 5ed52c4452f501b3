"""`rewriter demo`: what it is, on real purchases, with nothing installed but the package."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from rewriter.cli.explain import explanations
from rewriter.cli.output import UNHEALTHY, say
from rewriter.demo.shop import ERRORS, Engine
from rewriter.demo.show import show
from rewriter.errors import RewriterError


def demo(
    engine: Annotated[Engine, typer.Option(envvar="ENGINE", help="What to search on.")] = Engine.OSMEM,
) -> None:
    """Show plain and personalized pages side by side, then take the store away.

    Starts engines of its own on 127.0.0.1 and ends them. `opensearch` is OPENSEARCH_URL where that is set, else a server
    from Maven Central's jars.
    """
    logging.getLogger("opensearch").addHandler(logging.NullHandler())  # the demo reports errors itself
    try:
        show(engine, lambda reason: explanations()[reason].means)
    except (RewriterError, *ERRORS) as error:
        say(f"demo: {error}")
        raise typer.Exit(UNHEALTHY) from None
