"""The launcher of the real OpenSearch: what it needs from its surroundings."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from rewriter_engines import layout, opensearch
from rewriter_engines.errors import EngineError
from rewriter_engines.opensearch import cache_directory


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that the launcher lies in, on a machine whose temporary directory is another."""
    made = tmp_path / "checkout"
    made.mkdir()
    (made / "pyproject.toml").touch()
    monkeypatch.setattr(layout, "__file__", str(made / "engines/rewriter_engines/layout.py"))
    monkeypatch.setattr(opensearch, "usable", lambda _: True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return made


def test_layouts_are_kept_in_the_checkout(checkout: Path) -> None:
    assert cache_directory() == checkout / ".opensearch"
    assert cache_directory().is_dir()


def test_a_checkout_that_the_servers_user_may_not_read_is_left_alone(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opensearch, "usable", lambda _: False)
    assert cache_directory().parent == checkout.parent
    assert not (checkout / ".opensearch").exists()


def test_an_installed_package_is_no_checkout(checkout: Path) -> None:
    (checkout / "pyproject.toml").unlink()
    assert cache_directory().parent == checkout.parent


def test_a_directory_that_somebody_else_prepared_is_refused(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opensearch, "usable", lambda _: False)
    prepared = cache_directory()
    prepared.rmdir()
    prepared.symlink_to(checkout)
    with pytest.raises(EngineError, match="belongs to somebody else"):
        cache_directory()
