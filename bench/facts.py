"""Index facts for a core without threads, parsed as the background of a live process parses them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rewriter.core import Core
from rewriter.shell.background.index_reader import IndexReader
from rewriter.shell.background.sources import GetMapping
from rewriter.shell.drive import drive


def read_facts(core: Core, mapping: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Put the facts of a policy's indices into the core's snapshot.

    mapping, settings: the server's answers to `GET index/_mapping` and to `GET index/_settings?flat_settings=true`.
    """
    drive(IndexReader(core, time.monotonic).round(), lambda step: mapping if isinstance(step, GetMapping) else settings)
