"""Secrets and the environment: no output shows a credential, and every setting can come from a variable."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from rewriter import Settings
from rewriter.errors import ConfigurationError
from rewriter.secret import SecretUrl, shown_url, without_credentials
from rewriter.signals.redis_clients import store_address
from rewriter.signals.store import Keys

SHOWN = [
    ("http://search:hunter2@h:9200", "http://h:9200"),
    ("https://h:9200/path", "https://h:9200/path"),
    ("redis://:hunter2@h:6379/0", "redis://h:6379/0"),
    ("redis://:hun?ter2@h:6379/0", "redis://h:6379/0"),
    ("redis://u:hun/ter2@x@h/0", "redis://h/0"),
    ("redis://h/0?password=hunter2", "redis://h/0"),
    ("redis+cluster://:hunter2@a:1,b:2", "redis+cluster://a:1,b:2"),
    ("user:hunter2@h:9200", "h:9200"),
    ("unix:///run/valkey.sock", "unix:///run/valkey.sock"),
]


@pytest.mark.parametrize(("url", "shown"), SHOWN)
def test_a_url_shows_without_its_credentials(url: str, shown: str) -> None:
    secret = SecretUrl(url)
    assert shown_url(url) == str(secret) == f"{secret}" == shown
    assert "hunter2" not in repr(secret)
    assert secret.get_secret_value() == url
    if "://" in url:
        assert "hunter2" not in without_credentials(f"cannot reach {url}: refused")


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("REWRITER_STORE_URL", "REWRITER_STORE__URL"),
        ("REWRITER_STORE_PROFILE_URL", "REWRITER_STORE__PROFILE_URL"),
        ("REWRITER_OPENSEARCH_HOSTS", "REWRITER_OPENSEARCH__HOSTS"),
        ("rewriter_budget_signals_ms", "REWRITER_BUDGET__SIGNALS_MS"),
    ],
)
def test_a_variable_with_one_underscore_for_two_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, meant: str
) -> None:
    """It would set nothing: a service without a store personalizes nothing, and nothing says why."""
    monkeypatch.setenv(variable, "redis://:hunter2@h")
    monkeypatch.setenv("REWRITER_SOMETHING_ELSE", "of another service")
    monkeypatch.setenv("REWRITER_SWITCH_PERSONALIZATION", "on")
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_environment()
    assert [str(fault) for fault in refused.value.faults] == [f"environment {variable}: sets nothing (write {meant})"]


@given(
    st.text(
        st.characters(exclude_characters="\r\n\t \x0b\x0c\x1c\x1d\x1e\x1f\x85", exclude_categories=("Z", "C")),
        min_size=1,
    )
)
def test_no_password_shows_whatever_is_in_it(password: str) -> None:
    marked = f"S3{password}3S"
    assert "3S@" not in without_credentials(f"at http://u:{marked}@h:1/x, see http://h")
    assert marked not in shown_url(f"redis://:{marked}@h/0")


CREDENTIALS = {
    "opensearch": {"hosts": ["http://a:hunter2@h"], "username": "ann", "password": "hunter2"},
    "store": {"url": "redis://:hunter2@h", "profile_url": "redis://:hunter2@p", "key_salt": "hunter2"},
}


def test_settings_show_no_secret_in_any_form() -> None:
    settings = Settings.model_validate(CREDENTIALS)
    shown = [repr(settings), str(settings), settings.model_dump_json(), json.dumps(settings.model_dump(), default=str)]
    assert [text for text in shown if "hunter2" in text] == []
    assert "hunter2" not in repr(Keys("rw", "hunter2"))
    for twin in (copy.deepcopy(settings), pickle.loads(pickle.dumps(settings))):
        assert twin == settings
        assert twin.store.plain_urls == ("redis://:hunter2@h", "redis://:hunter2@p")


WRONG = [
    "[opensearch]\npassword = 12345678\n",
    '[opensearch]\npassword = ["hunter2"]\n',
    '[opensearch]\nhosts = { url = "http://u:hunter2@h" }\n',
    '[opensearch]\nhosts = ["http://u:hunter2@h", 12345678]\n',
    '[store]\nurl = ["redis://:hunter2@h:6379"]\n',
    "[store]\nprofile_url = 12345678\n",
    "[store]\nkey_salt = 12345678\n",
    '[store]\nprefix = "http://u:hunter2@h"\n',
    'store = "redis://:hunter2@h"\n',
    'opensearch = ["http://u:hunter2@h"]\n',
    '[policies]\nshop = "http://u:hunter2@h"\n',
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_no_fault_of_a_file_shows_a_secret(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rewriter.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_toml(path)
    assert not re.search("hunter2|12345678", str(refused.value))


@pytest.mark.parametrize("data", [{"opensearch": {"password": 12345678}}, {"store": "redis://:12345678@h"}])
def test_no_error_of_settings_made_in_code_shows_a_secret(data: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(data)
    assert "12345678" not in str(refused.value)


# --- the environment --------------------------------------------------------------------------------------------------


def read(tmp_path: Path, text: str = "") -> Settings:
    path = tmp_path / "rewriter.toml"
    path.write_text(text)
    return Settings.from_toml(path)


def leaves(model: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


TEXTS = {
    "client": "elasticsearch",
    "url": "redis://a",
    "profile_url": "redis://a",
    "hosts": "http://a",
    "objects_index": "a",
    "prefix": "a",
}
JSONS = {"action_weights": '{"view": 2}', "policies": '{"a": {"index": "b"}}'}


@pytest.mark.parametrize("path", list(leaves(Settings())), ids="__".join)
def test_every_setting_can_come_from_the_environment(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default: Any = Settings()
    section: type[BaseModel] = Settings
    for name in path:
        section, default = type(default), getattr(default, name)
    options = get_args(section.model_fields[path[-1]].annotation)
    if isinstance(default, bool):
        text = "false" if default else "true"
    elif isinstance(default, (int, float)):
        text = _other_number(section, path[-1], default)
    elif isinstance(default, str) and options:
        text = next(one for one in options if one != default)
    else:
        text = TEXTS.get(path[-1]) or JSONS.get(path[-1]) or "text"
    monkeypatch.setenv("REWRITER_" + "__".join(path).upper(), text)
    found: Any = read(tmp_path)
    assert found == Settings.from_environment()
    for name in path:
        found = getattr(found, name)
    assert found != default


def _other_number(section: type[BaseModel], name: str, default: float) -> str:
    """A valid value that is not the default."""
    for other in (default / 2, default * 2, default - 1, default + 1, 0.5, 1):
        value = int(other) if isinstance(default, int) else other
        try:
            section.model_validate({name: value})
        except ValidationError:
            continue
        if value != default:
            return str(value)
    raise AssertionError(name)


def test_a_variable_wins_over_the_file_and_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWRITER_STORE__URL", "redis://:hunter2@env")
    monkeypatch.setenv("REWRITER_POLICIES__BOOKS_1__MAX_BOOST", "2")
    monkeypatch.setenv("REWRITER_POLICIES__BOOKS_1__FIELDS__AUTHOR__SCALE", "0.7")
    monkeypatch.setenv("REWRITER_OPENSEARCH__HOSTS", '["http://a", "http://b"]')
    monkeypatch.setenv("REWRITER_OPENSEARCH__PASSWORD", "0123")
    settings = read(
        tmp_path,
        '[store]\nurl = "redis://file"\nprefix = "shop"\n[policies.Books-1]\nindex = "b"\nfields.author = {}\n',
    )
    assert settings.store.plain_urls[0] == "redis://:hunter2@env"
    assert settings.store.prefix == "shop"
    assert settings.policies["Books-1"].max_boost == 2.0
    assert settings.policies["Books-1"].fields["author"].scale == 0.7
    assert len(settings.opensearch.hosts) == 2
    assert settings.opensearch.password is not None
    assert settings.opensearch.password.get_secret_value() == "0123"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("REWRITER_BUDGET__CUTOFF_MS", "soon", "environment REWRITER_BUDGET__CUTOFF_MS: budget.cutoff_ms: Input should be a valid"),
        ("REWRITER_STORE__ULR", "redis://:hunter2@h", "environment REWRITER_STORE__ULR: unknown key store.ulr"),
        ("REWRITER_STORE", "redis://:hunter2@h", "environment REWRITER_STORE: store: "),
        ("REWRITER_STORE__PREFIX", "a b", "environment REWRITER_STORE__PREFIX: store.prefix: String should match pattern"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_named(
    variable: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path)
    assert str(refused.value).startswith(said)
    assert "hunter2" not in str(refused.value)


def test_what_a_cluster_s_own_variables_say_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes makes such variables for a service that is named like this library."""
    monkeypatch.setenv("REWRITER_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("REWRITER_PORT_8080_TCP", "tcp://10.0.0.1:8080")
    assert read(tmp_path) == Settings()


@pytest.mark.parametrize(
    "host",
    [
        "http://u:hunter2@h:port", "http://u:hun/ter2@h:9200", "http://u:hunter2@h:99999", "ftp://u:hunter2@h", "http://", "",
        "http://u:hunter2@[::1", "http://u:hunter2@h h", "redis://u:hunter2@h",
    ],
)  # fmt: skip
def test_a_host_of_which_no_client_can_be_made_is_refused_in_the_settings(host: str) -> None:
    with pytest.raises(ValidationError, match="is not http://HOST:PORT") as refused:
        Settings.model_validate({"opensearch": {"hosts": [host]}})
    assert "hun" not in str(refused.value)


@pytest.mark.parametrize(
    "host", ["h", "h:9200", "u:hunter2@h:9200", "https://u:hun%2Fter2@h", "http://[::1]:9200/prefix"]
)
def test_a_host_of_which_a_client_can_be_made_is_taken(host: str) -> None:
    assert Settings.model_validate({"opensearch": {"hosts": host}}).opensearch.hosts[0].get_secret_value() == host


def test_where_a_store_lies_shows_no_password() -> None:
    assert "hunter2" not in repr(store_address("redis://u:hunter2@h:6379/0"))
