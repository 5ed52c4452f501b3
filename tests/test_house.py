"""The house as docs/design.md draws it: imports point only upward in its list of rooms, and its pure rooms stay pure."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewriter import Settings, client
from rewriter.boost.functions import describe
from rewriter.boost.samples import hostile
from rewriter.client import registry
from rewriter.report import Source
from rewriter.settings import FieldSettings, PolicySettings
from rewriter.signals import kinds
from rewriter.signals.affinities import Population, preferences, signal_fields, strongest
from rewriter.signals.counters import Counters, HalfLives, Value
from rewriter.signals.events import values
from rewriter.signals.kinds.registry import every_kind
from rewriter.signals.repeats import RepeatGuard

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for path in (ROOT / "rewriter").rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))
TABLE = (
    (ROOT / "docs/design.md").read_text("utf-8").partition("| package | purpose |\n|---|---|\n")[2].partition("\n\n")[0]
)
ROOMS = {room: floor for floor, row in enumerate(TABLE.splitlines()) for room in re.findall(r"\w+", row.split("|")[1])}

WITH_THE_WORLD = (
    "client/elasticsearch/",
    "client/limits.py",
    "client/opensearch/",
    "client/pieces.py",
    "client/registry.py",
    "settings.py",
    "read_file.py",
    "settings_file.py",
    "experiment/outcomes.py",
    "experiment/record_files.py",
    "experiment/searches.py",
    "experiment/window_records.py",
    "observe/background.py",
    "observe/otel.py",
    "observe/prometheus.py",
    "observe/state_metrics.py",
    "observe/ubi.py",
    "observe/ubi_sinks.py",
    "measures/ages.py",
    "evaluate/coded_past.py",
    "evaluate/counted_past.py",
    "evaluate/drawing.py",
    "evaluate/facts.py",
    "evaluate/hit_facts.py",
    "evaluate/hold_out.py",
    "evaluate/near_search.py",
    "evaluate/past.py",
    "evaluate/readers.py",
    "evaluate/records.py",
    "evaluate/run.py",
    "evaluate/shared.py",
    "evaluate/search_lines.py",
    "evaluate/tuning.py",
    "evaluate/ubi_files.py",
    "shell/",
    "cli/",
    "demo/",
    "signals/answer_bound.py",
    "signals/command_store.py",
    "signals/memory_store.py",
    "signals/dns.py",
    "signals/redis_clients.py",
    "signals/redis_store.py",
    "signals/store_failures.py",
    "signals/ingest/",
    "signals/backfill/",
)
"""All that may know a clock, chance, a log, a file, a socket, a client. Whatever is new is pure until it stands here."""

IMPURE = frozenset(
    {
        "asyncio", "concurrent", "contextvars", "datetime", "http", "httpx", "logging", "multiprocessing", "opensearchpy", "os",
        "pathlib", "random", "redis", "requests", "secrets", "select", "shutil", "signal", "socket", "ssl", "subprocess", "sys",
        "tempfile", "time", "urllib", "uuid",
    }
)  # fmt: skip


def name(path: Path) -> str:
    return path.relative_to(ROOT / "rewriter").as_posix()


def room(module: str) -> str:
    return module.removeprefix("rewriter.").partition(".")[0]


def imports(path: Path) -> Iterator[str]:
    """The full names of all that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def pure(path: Path) -> bool:
    return not name(path).startswith(WITH_THE_WORLD)


def test_every_room_is_in_the_table_and_every_name_in_the_table_is_a_room() -> None:
    assert {room(name(path).removesuffix(".py").replace("/", ".")) for path in MODULES} == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_point_only_upward(path: Path) -> None:
    floor = ROOMS[room(name(path).removesuffix(".py").replace("/", "."))]
    downward = [one for one in imports(path) if one.startswith("rewriter.") and ROOMS[room(one)] > floor]
    assert downward == []


@pytest.mark.parametrize("path", [path for path in MODULES if pure(path)], ids=name)
def test_pure_rooms_know_no_clock_no_chance_no_log_no_socket_and_no_client(path: Path) -> None:
    found = set(imports(path))
    assert {one for one in found if one.partition(".")[0] in IMPURE} == set()
    assert {one for one in found if one.startswith("threading")} <= {"threading.Lock"}
    worldly = tuple(one.removesuffix(".py") for one in WITH_THE_WORLD if not one.startswith("settings"))
    assert {one for one in found if one.removeprefix("rewriter.").replace(".", "/").startswith(worldly)} == set()


CLIENT_LIBRARIES = frozenset(
    {"opensearchpy", "opensearch_dsl", "elasticsearch", "elasticsearch_dsl", "elastic_transport"}
)


@pytest.mark.parametrize("path", [path for path in MODULES if not name(path).startswith("demo/")], ids=name)
def test_only_the_room_of_the_client_imports_a_client_library(path: Path) -> None:
    found = {one.partition(".")[0] for one in imports(path)} & CLIENT_LIBRARIES
    own = {module for module in registry.names() if name(path).startswith((f"client/{module}.py", f"client/{module}/"))}
    assert bool(found) <= bool(own), found


def test_adding_a_client_adds_a_file_and_changes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of the library names a client's file or package, but the files of that package."""
    naming = {
        name(path)
        for path in MODULES
        for module in registry.names()
        if not name(path).startswith(f"client/{module}/")
        and any(one.startswith(f"rewriter.client.{module}") for one in imports(path))
    }
    assert naming == set()
    (tmp_path / "solr.py").write_text("SYNC, ASYNC = 'solr.Client', 'solr.AsyncClient'\n")
    monkeypatch.setattr(client, "__path__", [*client.__path__, str(tmp_path)])
    registry.names.cache_clear()
    try:
        kind = type("Client", (), {"__module__": "solrclient.core"})
        assert "solr" in registry.names()
        found = registry.library_of(kind())
        assert found is not None
        assert found.SYNC == "solr.Client"
        assert Settings.model_validate({"opensearch": {"client": "solr"}}).opensearch.client == "solr"
    finally:
        registry.names.cache_clear()
        sys.modules.pop("rewriter.client.solr", None)


KIND_FILE = """
from rewriter.signals.kinds.kind import SignalField, SignalKind

class Shelf(SignalKind):
    name = "shelf"
    def fields_of(self, policy):
        return {"shelf": SignalField(self, ("shelf",), 0.2, 50.0)}
    def describe(self, values):
        return "shelf " + "/".join(values)

KIND = Shelf()
"""


def test_adding_a_kind_of_signal_adds_a_file_and_changes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events, affinities, clauses, samples and reports know a new kind by its file."""
    (tmp_path / "shelf.py").write_text(KIND_FILE)
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path)])
    every_kind.cache_clear()
    try:
        policy = PolicySettings(index=("*",), fields={"brand": FieldSettings()}, item_field=None)
        fields = signal_fields(policy)
        counted = values({"brand": "nike", "shelf": ["top", "new"]}, fields)
        assert counted == (("brand", "nike"), ("shelf", "top"), ("shelf", "new"))
        population = Population({}, {"brand": 900.0, "shelf": 900.0})
        own = Counters(dict.fromkeys(counted, 9.0), {"brand": 9.0, "shelf": 18.0}, 0.0, 0.0, 3.0)
        liked = preferences(own, HalfLives(60.0), fields, population, RepeatGuard({}, {}), 4.0, 0.0)
        weights: dict[Value, tuple[float, Source]] = {value: (weight, "profile") for value, weight in liked.items()}
        found = {one.values[0]: one for one in strongest(weights, fields, 8) if one.kind == "shelf"}
        assert {name: dict(one.filter) for name, one in found.items()} == {
            "top": {"term": {"shelf": "top"}},
            "new": {"term": {"shelf": "new"}},
        }
        assert describe(found["top"]) == "shelf top"
        assert "a hostile sample of field shelf" in hostile(policy)
    finally:
        every_kind.cache_clear()
        sys.modules.pop("rewriter.signals.kinds.shelf", None)


def test_no_other_file_asks_what_kind_a_signal_is() -> None:
    """What differs between kinds is in their files: elsewhere none is named but in samples, which give examples of each."""
    asking = re.compile(r"""kind\.?(name)? *(==|!=|in) *[("'\[{]+(attribute|combination|item)""")
    assert {name(path) for path in MODULES if asking.search(path.read_text("utf-8"))} == set()


def test_only_the_demo_and_the_command_of_engines_use_their_launchers() -> None:
    using = {name(path) for path in MODULES if any(one.startswith("rewriter_engines") for one in imports(path))}
    assert using == {"cli/engines.py", "demo/launching.py", "demo/shop.py"}


def test_only_the_command_line_imports_the_command_line() -> None:
    """`rewriter.cli` imports every command, so a module below one that imports it cannot be imported first."""
    outside = [path for path in MODULES if not name(path).startswith("cli/")]
    assert [name(path) for path in outside if any(one.startswith("rewriter.cli.") for one in imports(path))] == []


def test_what_may_know_the_world_is_there() -> None:
    assert all((ROOT / "rewriter" / one).exists() for one in WITH_THE_WORLD)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_the_first_sentence_of_a_file_s_docstring_says_what_it_is(path: Path) -> None:
    """docs/files.md shows it as the line of the file."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split())
    sentence = re.match(r".*?[.?](?=\s|$)", text)
    assert 10 < len(sentence[0] if sentence else text) <= 160


def test_the_shells_are_twins() -> None:
    """Whoever knows one finds the way in the other. What differs is what only threads or only tasks need."""
    threads, tasks = (
        {path.stem for path in MODULES if name(path).startswith(f"shell/{one}/")} for one in ("threads", "tasks")
    )
    assert threads & tasks == {"batch", "job", "legs", "own_search", "part", "runtime", "runtimes", "search"}
    assert (threads - tasks, tasks - threads) == ({"deadlines"}, {"underway"})


def test_nothing_is_named_after_nothing() -> None:
    assert not {path.stem for path in MODULES} & {
        "utils",
        "util",
        "helpers",
        "helper",
        "models",
        "common",
        "misc",
        "base",
    }
