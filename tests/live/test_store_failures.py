"""What the commands and a process say of a store that cannot be used: what is wrong, where, and what to do."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from rewriter import AsyncRewriter, Rewriter
from rewriter.cli import app
from rewriter.shell.status import Status
from rewriter_engines import Valkey
from rewriter_engines.process import ServerProcess, free_port
from rewriter_engines.valkey import _binary

SECRET = "s3cret"
TRIES, PAUSE_S = 1_000, 0.01


@pytest.fixture(scope="module")
def sentinel_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Sentinel that watches a server which is not there."""
    folder, port = tmp_path_factory.mktemp("sentinel"), free_port()
    (folder / "own.conf").write_text(f"bind 127.0.0.1\nport {port}\nsentinel monitor main 127.0.0.1 {free_port()} 1\n")
    process = ServerProcess(
        [str(_binary()), str(folder / "own.conf"), "--sentinel"], log=folder / "own.log", cwd=folder
    )

    def answers() -> bool:
        with suppress(redis.RedisError), redis.Redis(port=port, socket_timeout=1) as client:
            return bool(client.ping())
        return False

    process.wait_until(answers, 20.0)
    yield port
    process.end()


@pytest.fixture(scope="module")
def http_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """A server with a password, a role that may not read, and one that may read other keys alone."""
    with Valkey() as found:
        with found.client() as client:
            client.acl_setuser(
                "reader", enabled=True, passwords=["+pass-of-it"], keys=["*"], commands=["+ping", "+select"]
            )
            client.acl_setuser("other", enabled=True, passwords=["+pass-of-it"], keys=["other:*"], categories=["+@all"])
            client.config_set("requirepass", SECRET)
        yield found


@pytest.fixture
def url_of(request: pytest.FixtureRequest, server: Valkey, tmp_path: Path) -> Callable[[str], str]:
    def of(case: str) -> str:
        at = f"127.0.0.1:{server.port}"
        urls: dict[str, Callable[[], str]] = {
            "nothing there": lambda: "redis://127.0.0.1:1",
            "no such name": lambda: "redis://no-such-host.invalid:6379",
            "password missing": lambda: f"redis://{at}",
            "password wrong": lambda: f"redis://:wrong-{SECRET}@{at}",
            "user wrong": lambda: f"redis://nobody:wrong-{SECRET}@{at}",
            "right missing": lambda: f"redis://reader:pass-of-it@{at}",
            "other keys": lambda: f"redis://other:pass-of-it@{at}",
            "database": lambda: f"redis://:{SECRET}@{at}/99",
            "http": lambda: f"redis://127.0.0.1:{request.getfixturevalue('http_port')}",
            "no tls there": lambda: f"rediss://:{SECRET}@127.0.0.1:{request.getfixturevalue('http_port')}",
            "certificate file": lambda: f"rediss://:{SECRET}@{at}?ssl_ca_certs={tmp_path}/none.pem",
            "socket": lambda: f"unix://{tmp_path}/none.sock",
            "service": lambda: f"redis+sentinel://127.0.0.1:{request.getfixturevalue('sentinel_port')}/shop",
            "sentinels away": lambda: "redis+sentinel://127.0.0.1:1,127.0.0.1:2/shop",
            "no sentinel": lambda: f"{request.getfixturevalue('redis_url')}/shop".replace(
                "redis://", "redis+sentinel://"
            ),
            "sentinel as a server": lambda: f"redis://127.0.0.1:{request.getfixturevalue('sentinel_port')}",
            "no cluster": lambda: f"redis+cluster://:{SECRET}@{at}",
            "node of a cluster": lambda: request.getfixturevalue("redis_cluster_urls")[0],
            "cluster away": lambda: "redis+cluster://127.0.0.1:1",
        }
        return urls[case]()

    return of


SAID = {
    "nothing there": ("redis://127.0.0.1:1: nothing listens at 127.0.0.1:1", "start the server"),
    "no such name": ("no address is known for the name no-such-host.invalid:6379", "check the DNS"),
    "password missing": ("asks for a password", "redis://:PASSWORD@HOST"),
    "password wrong": ("refuses this user or password", "percent-encoded"),
    "user wrong": ("refuses this user or password", "percent-encoded"),
    "right missing": ("its role may not run", "ACL SETUSER"),
    "other keys": ("its role may not use these keys", "ACL SETUSER"),
    "database": ("has no database of this number", "correct the number"),
    "http": ("something else than Redis or Valkey answers", "correct host and port"),
    "no tls there": ("does not speak TLS", "use redis://"),
    "certificate file": ("there is no file ssl_ca_certs=", "correct the path"),
    "socket": ("there is no such socket", "`unixsocket`"),
    "service": ("its Sentinels know no running server of the service shop", "`SENTINEL MASTERS`"),
    "sentinels away": ("none of its Sentinels answers", "26379"),
    "no sentinel": ("a server and no Sentinel answers", "26379"),
    "sentinel as a server": ("does not know", "redis+sentinel://HOST:PORT/SERVICE"),
    "no cluster": ("is no cluster", "use redis://"),
    "node of a cluster": ("is a node of a cluster", "use redis+cluster://"),
    "cluster away": ("nothing listens at 127.0.0.1:1", "start the server"),
}
COMMON = ("nothing there", "password wrong", "other keys", "http", "certificate file", "service", "no cluster")
CASES = [pytest.param(one, marks=() if one in COMMON else pytest.mark.full) for one in SAID]
LASTING = set(SAID) - {"nothing there", "no such name", "socket", "service", "sentinels away", "cluster away"}


def held(text: str, case: str) -> None:
    for part in SAID[case]:
        assert part in text
    for never in (SECRET, "pass-of-it", "nobody", "reader", "Traceback", "<redis", "0x"):
        assert never not in text


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    monkeypatch.chdir(tmp_path)

    def write(url: str) -> Path:
        (tmp_path / "rewriter.toml").write_text(
            f"[opensearch]\nhosts = 'http://127.0.0.1:1'\n[store]\nurl = '{url}'\n[policies.shop]\nindex = 'products'\n"
        )
        return tmp_path / "rewriter.toml"

    return write


@pytest.mark.parametrize("case", SAID)
def test_check_says_what_to_do(case: str, url_of: Callable[[str], str], toml: Callable[[str], Path]) -> None:
    toml(url_of(case))
    said = json.loads(CliRunner().invoke(app, ["check", "--json"]).stdout)
    faults = [f"{one['what']} ({one['remedy']})" for one in said["faults"] if one["where"] == "rewriter.toml:4"]
    notes = [one for one in said["notes"] if one.startswith("[store] url")]
    (text,) = faults if case in LASTING else notes
    held(text, case)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("command", [("forget", "u-17"), ("backfill", "history.ndjson")])
def test_commands_that_need_the_store_say_what_to_do(
    case: str, command: tuple[str, ...], url_of: Callable[[str], str], toml: Callable[[str], Path]
) -> None:
    folder = toml(url_of(case)).parent
    (folder / "history.ndjson").write_text('{"user_id": "u1", "object_id": "p1", "timestamp": "2026-01-01T00:00:00Z"}')
    ended = CliRunner().invoke(app, [*command])
    assert (ended.exit_code, ended.stdout) == (1, "")
    held(ended.stderr, case)


PASSES_PING = {"right missing", "other keys", "sentinel as a server", "node of a cluster"}


@pytest.mark.parametrize("case", [one for one in CASES if one.values[0] not in PASSES_PING])
def test_ingest_says_what_to_do(case: str, url_of: Callable[[str], str], toml: Callable[[str], Path]) -> None:
    toml(url_of(case))
    ended = CliRunner().invoke(app, ["ingest"])
    assert (ended.exit_code, ended.stdout) == (1, "")
    held(ended.stderr, case)


@pytest.mark.parametrize("case", CASES)
def test_a_process_says_what_to_do(case: str, url_of: Callable[[str], str], toml: Callable[[str], Path]) -> None:
    with Rewriter.from_settings(toml(url_of(case))) as rewriter:
        text = ""
        for _ in range(TRIES):
            if has_said(text := said(rewriter.status()), case):
                break
            time.sleep(PAUSE_S)
    held(text, case)


@pytest.mark.parametrize("case", CASES)
async def test_a_process_with_an_event_loop_says_what_to_do(
    case: str, url_of: Callable[[str], str], toml: Callable[[str], Path]
) -> None:
    async with AsyncRewriter.from_settings(toml(url_of(case))) as rewriter:
        text = ""
        for _ in range(TRIES):
            if has_said(text := said(await rewriter.status()), case):
                break
            await asyncio.sleep(PAUSE_S)
    held(text, case)


def has_said(text: str, case: str) -> bool:
    return all(part in text for part in SAID[case])


def said(status: Status) -> str:
    return "\n".join(one for one in status.problems if not one.startswith("facts of "))
