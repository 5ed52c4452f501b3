"""`rewriter demo`: what it is, on real purchases, with nothing installed but the package."""

from __future__ import annotations

from typing import Annotated

import typer
from opensearchpy.exceptions import OpenSearchException

from rewriter.cli.output import UNHEALTHY, say
from rewriter.demo.shop import Engine
from rewriter.demo.show import show
from rewriter.errors import RewriterError


def demo(
    engine: Annotated[Engine, typer.Option(envvar="ENGINE", help="What to search on.")] = Engine.OSMEM,
) -> None:
    """Show plain and personalized pages side by side, then take the store away.

    Starts engines of its own on 127.0.0.1 and ends them. `opensearch` is OPENSEARCH_URL where that is set, else a server
    from Maven Central's jars.
    """
    try:
        show(engine)
    except (RewriterError, OpenSearchException) as error:
        say(f"demo: {error}")
        raise typer.Exit(UNHEALTHY) from None
