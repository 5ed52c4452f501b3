"""Texts of stores that fail: those that redis-py 8.1 gives where TLS, a full server or a replica is the cause, on both shells."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import exceptions as of_redis

from rewriter.errors import AnswerTooLargeError, StoreError
from rewriter.signals.store_failures import address_of_url, described, failure_of, note_address

CONNECTING = "Error 1 connecting to 127.0.0.1:6380. [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
TLS_URL = "rediss://shop:s3cret@127.0.0.1:6380/0?ssl_ca_certs=/nowhere/ca.pem&ssl_certfile=/nowhere/own.pem"


def of(error: Exception, url: str) -> str:
    note_address(error, address_of_url(url))
    return described(error)


@pytest.mark.parametrize(
    ("error", "what", "remedy"),
    [
        (of_redis.TimeoutError("Timeout connecting to server"), "does not complete TLS in time", "redis://"),
        (
            of_redis.ConnectionError(f"{CONNECTING}self-signed certificate (_ssl.c:1006)."),
            "its certificate is not accepted: self-signed certificate",
            "?ssl_ca_certs=",
        ),
        (
            of_redis.ConnectionError(
                f"{CONNECTING}IP address mismatch, certificate is not valid for '127.0.0.1'. (_ssl.c:1006)."
            ),
            "certificate is not valid for '127.0.0.1'",
            "use the host name that the certificate has",
        ),
        (
            of_redis.ConnectionError(f"{CONNECTING}certificate has expired (_ssl.c:1006)."),
            "certificate has expired",
            "renew it",
        ),
        (
            of_redis.ConnectionError("Error 2 connecting to 127.0.0.1:6380. No such file or directory."),
            "there is no file ssl_ca_certs=/nowhere/ca.pem, ssl_certfile=/nowhere/own.pem",
            "correct the path",
        ),
        (
            of_redis.ConnectionError(
                "Error 136 connecting to 127.0.0.1:6380. [X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found"
                " (_ssl.c:4154)."
            ),
            "a certificate file of the URL holds no PEM",
            "ssl_ca_certs",
        ),
        (
            of_redis.ConnectionError(
                "Error 116 connecting to 127.0.0.1:6380. [X509: KEY_VALUES_MISMATCH] key values mismatch (_ssl.c:3926)."
            ),
            "ssl_keyfile is not the key of ssl_certfile",
            "own key",
        ),
        (
            of_redis.ConnectionError(
                "Error 8 while writing to socket. EOF occurred in violation of protocol (_ssl.c:2427)."
            ),
            "closes the connection",
            "does it ask for a certificate",
        ),
        (
            of_redis.ConnectionError(
                "Error 1 while writing to socket. [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate"
                " required (_ssl.c:2580)."
            ),
            "asks for a certificate",
            "ssl_certfile=",
        ),
    ],
)
def test_tls(error: Exception, what: str, remedy: str) -> None:
    text = of(error, TLS_URL)
    assert text.startswith(f"{type(error).__name__}: rediss://127.0.0.1:6380/0: ")
    assert what in text
    assert remedy in text.partition("(")[2]
    assert "s3cret" not in text
    assert "shop" not in text


@pytest.mark.parametrize(
    ("error", "what", "remedy"),
    [
        (
            of_redis.ConnectionError("Error while reading from 10.0.0.1:6379 : (104, 'Connection reset by peer')"),
            "closes the connection",
            "rediss://",
        ),
        (
            of_redis.ConnectionError("Error UNKNOWN while writing to socket. Connection lost."),
            "closes the",
            "maxclients",
        ),
        (of_redis.InvalidResponse('Protocol error, got "\x15" as reply type byte'), "expects TLS", "use rediss://"),
        (of_redis.TimeoutError("Timeout connecting to server"), "does not accept a connection", "firewall"),
        (of_redis.TimeoutError("Timeout reading from socket"), "does not answer in time", "stopped"),
        (of_redis.ReadOnlyError("You can't write against a read only replica."), "is a replica", "redis+sentinel://"),
        (of_redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "is full", "maxmemory"),
        (of_redis.BusyLoadingError("Redis is loading the dataset in memory"), "loads its data", "wait"),
        (of_redis.MaxConnectionsError("Too many connections"), "in use", "max_connections"),
        (of_redis.ResponseError("MISCONF Valkey is configured to save RDB"), "takes no writes", "full disk"),
    ],
)
def test_servers(error: Exception, what: str, remedy: str) -> None:
    text = of(error, "redis://10.0.0.1:6379")
    assert what in text
    assert remedy in text.partition("(")[2]


def test_a_refused_command_names_neither_user_nor_arguments() -> None:
    refused = of_redis.NoPermissionError("User alice has no permissions to run the 'set' command")
    assert "alice" not in of(refused, "redis://alice:s3cret@h")
    unknown = of_redis.ResponseError("unknown command 'JSON.GET', with args beginning with: 'rw:{u:17}' 'alice' ")
    assert "does not know JSON" in of(unknown, "redis://h")
    assert "alice" not in described(unknown)


def test_what_is_not_recognized_keeps_its_text_and_its_class() -> None:
    assert described(StoreError("the store is closed")) == "StoreError: the store is closed"
    assert described(AnswerTooLargeError("the answer is larger than max_answer_bytes")).startswith("AnswerTooLarge")
    assert described(of_redis.ConnectionError()) == "ConnectionError"
    assert described(StoreError("somebody's store failed for u-17"), quotes=False) == "StoreError"
    odd = of_redis.ResponseError("at redis://u:s3cret@h:1 something odd" + "x" * 500)
    assert described(odd).startswith("ResponseError: at redis://h:1 something odd")
    assert len(described(odd)) < 200
    assert not failure_of(odd).is_lasting


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").write_text("")
    monkeypatch.setattr("os.access", lambda *_: False)
    denied = of_redis.ConnectionError("Error 13 connecting to h:6379. Permission denied.")
    assert "may not read ssl_ca_certs=" in of(denied, f"rediss://h?ssl_ca_certs={tmp_path}/ca.pem")
    assert "this process may not use the socket" in of(denied, "unix:///run/valkey.sock")
