"""docker-compose.yml is what the tests and the documentation take it for. No container is started here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rewriter_engines.layout import VERSION

FILE = Path(__file__).parents[2] / "docker-compose.yml"
SERVICES: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]


def test_images_are_those_that_the_project_is_tested_with() -> None:
    images = {name: service["image"] for name, service in SERVICES.items()}
    observing = {name: images.pop(name).partition(":")[0] for name in ("grafana", "prometheus")}  # profile `observe`
    assert observing == {"grafana": "grafana/grafana", "prometheus": "prom/prometheus"}
    assert images == {"opensearch": f"opensearchproject/opensearch:{VERSION}", "valkey": "valkey/valkey:9"}


@pytest.mark.parametrize(("service", "port"), [("opensearch", 9200), ("valkey", 6379)])
def test_ports_are_published_on_loopback_alone(service: str, port: int) -> None:
    assert SERVICES[service]["ports"] == [f"127.0.0.1:${{{service.upper()}_PORT-{port}}}:{port}"]


@pytest.mark.parametrize("service", ["opensearch", "valkey"])
def test_health_is_checked_for_at_least_half_a_minute(service: str) -> None:
    check = SERVICES[service]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert int(check["interval"].removesuffix("s")) * check["retries"] >= 30


def test_opensearch_runs_alone_and_without_security() -> None:
    environment = SERVICES["opensearch"]["environment"]
    assert environment["discovery.type"] == "single-node"
    assert environment["DISABLE_SECURITY_PLUGIN"] == "true"
