"""Settings: the defaults, and that every fault of a file is reported at once, with line and remedy."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep, thread_time
from typing import Any

import pytest
from pydantic import ValidationError

from rewriter import settings_file
from rewriter.errors import ConfigurationError
from rewriter.settings import PolicySettings, Settings
from rewriter.settings_file import MAX_BYTES, line_of

FULL = """\
templates_dir = "templates"

[opensearch]
hosts = "https://one:9200"
ca_certs = "certs/ca.pem"

[store]
url = "redis://one"
prefix = "shop"

[switches]
file = "/run/shop/switches"

[policies.shop]
index = ["products-*", "books"]
max_boost = 2
exploration_share = 0
fields.brand = { scale = 0.5 }
fields.type_brand = { of = ["type", "brand"], half_life_s = 86400 }

[policies.rest]
index = "*"
"""


def read(tmp_path: Path, text: str | bytes) -> Settings:
    path = tmp_path / "rewriter.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return Settings.from_toml(path)


def faults(tmp_path: Path, text: str | bytes) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, text)
    return [str(fault).replace(f"{tmp_path}/rewriter.toml", "FILE") for fault in refused.value.faults]


def test_nothing_has_to_be_set(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Settings()
    assert Settings().policy_for(("any", "index")) == "default"


def test_every_key_of_a_file_arrives_in_the_settings(tmp_path: Path) -> None:
    settings = read(tmp_path, FULL)
    assert [host.get_secret_value() for host in settings.opensearch.hosts] == ["https://one:9200"]
    shop = settings.policies["shop"]
    assert (shop.index, shop.max_boost, shop.exploration_share) == (("products-*", "books"), 2.0, 0.0)
    assert {name: field.of for name, field in shop.fields.items()} == {
        "brand": ("brand",),
        "type_brand": ("type", "brand"),
    }


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = read(tmp_path, FULL)
    assert settings.templates_dir == tmp_path / "templates"
    assert settings.opensearch.ca_certs == tmp_path / "certs/ca.pem"
    assert settings.switches.file == Path("/run/shop/switches")


@pytest.mark.parametrize(
    ("indices", "policy"),
    [
        (("products-1",), "shop"),
        (("products-1", "books"), "shop"),
        (("products-1", "orders"), "rest"),
        (("orders",), "rest"),
        ((), None),
    ],
)
def test_a_policy_must_match_every_index_that_a_search_names(
    tmp_path: Path, indices: tuple[str, ...], policy: str | None
) -> None:
    assert read(tmp_path, FULL).policy_for(indices) == policy


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("\n[stor]\nurl = 1", "FILE:2: unknown key stor (did you mean store? `rewriter settings` lists all keys)"),
        (
            "[store]\n\nurll = 'x'",
            "FILE:3: unknown key store.urll (did you mean url? `rewriter settings` lists all keys)",
        ),
        ("[store]\nurl = 5", "FILE:2: store.url: Input should be a valid string, not of type int"),
        ("[store]\nprefix = 'a b'", "FILE:2: store.prefix: String should match pattern"),
        (
            "[breaker]\nopen_s = 30\nmax_open_s = 5\nwindow_s = 1000",
            "FILE:1: breaker: open_s 30 must not exceed max_open_s 5; window_s 1000 must not exceed max_age_s 900",
        ),
        ("[budget]\ncutoff_ms = -1", "FILE:2: budget.cutoff_ms: Input should be greater than 0, not -1"),
        ("[budget]\ncutoff_ms = nan", "FILE:2: budget.cutoff_ms: Input should be a finite number, not nan"),
        (
            "[budget]\nmax_in_flight = 0",
            "FILE:2: budget.max_in_flight: Input should be greater than or equal to 1, not 0",
        ),
        ("budget.cutoff_ms = 'x'", "FILE:1: budget.cutoff_ms: Input should be a valid number"),
        ("[signals]\non_late = 'wait'", "FILE:2: signals.on_late: Input should be 'skip' or 'stale', not 'wait'"),
        ("[experiment]\nholdout = 5", "FILE:2: experiment.holdout: Input should be less than or equal to 1, not 5"),
        ("[policies.shop]\nmax_boost = 2", "FILE:1: policies.shop.index: Field required"),
        ("[policies.shop]\nindex = []", "FILE:2: policies.shop.index: "),
        (
            "[policies.a]\nindex = 'a'\nmax_boost = 1",
            "FILE:3: policies.a.max_boost: Input should be greater than 1, not 1",
        ),
        (
            "[policies.a]\nindex = 'a'\nmax_boost = 11",
            "FILE:3: policies.a.max_boost: Input should be less than or equal to",
        ),
        (
            "[policies.a]\nindex = 'a'\nexploration_share = 0.05",
            "FILE:3: policies.a.exploration_share: must be 0 (off) or lie in [0.1, 0.2], not 0.05",
        ),
        (
            "[policies.a]\nindex = 'a'\nexploration_share = 0.3",
            "FILE:3: policies.a.exploration_share: Input should be less than or equal to 0.2, not 0.3",
        ),
        (
            "[policies.a]\nindex = 'a'\nmax_depth = 120\nwindow_size = 100",
            "FILE:1: policies.a: max_depth 120 must not exceed",
        ),
        ("[policies.a]\nindex = 'a'\nfields.item = {}", "FILE:3: policies.a.fields: 'item': a field's name is"),
        (
            "[policies.a]\nindex = 'a'\n[policies.a.fields]\n'a b' = {}",
            "FILE:3: policies.a.fields: 'a b': a field's name is",
        ),
        (
            "[policies.a]\nindex = 'a'\n[policies.a.fields.b]\nscale = -1",
            "FILE:4: policies.a.fields.b.scale: Input should be",
        ),
        ("[policies.a]\nindex = 'a'\ntemplates = '../x'", "FILE:3: policies.a.templates: String should match pattern"),
        ("policies = 5", "FILE:1: policies: Input should be a valid dictionary, not 5"),
        ("[store]\nurl = ", "FILE:2: is not TOML: Invalid value (at end of document)"),
        ("[store]\nurl = 'x'\nurl = 'y'", "FILE:3: is not TOML: Cannot overwrite a value"),
        (b"\xff", "FILE: is not UTF-8"),
        ("[budget]\ncutoff_ms = " + "9" * 5_000, "FILE: holds a number of thousands of digits"),
        ("# \u2028 \x85\n[budget]\ncutoff_ms = 0", "FILE:3: budget.cutoff_ms: "),
        ('a = """\n[budget]\ncutoff_ms = 1\n"""\n[budget]\ncutoff_ms = 0', "FILE:1: unknown key a"),
        ("[budget]\ncutoff_ms = 5\n[bugdet.x]", "FILE:3: unknown key bugdet (did you mean budget?"),
        ("[budget]\ncutoff_ms = '30ms'", "FILE:2: budget.cutoff_ms: Input should be a valid number, unable to parse"),
        ("[experiment]\nholdout = true", "FILE:2: experiment.holdout: must be a number, not true"),
        ("[signals.action_weights]\nview = false", "FILE:2: signals.action_weights.view: must be a number, not false"),
        (
            "[policies.a]\nindex = 'a'\nitem_repeat_share = true",
            "FILE:3: policies.a.item_repeat_share: must be a number",
        ),
        (
            "[ingest]\npartitions = 2026-01-01",
            "FILE:2: ingest.partitions: Input should be a valid integer, not 2026-01-01",
        ),
        ("[policies.a]\nindex = 'a,b'", "FILE:2: policies.a.index.0: is no index, alias or pattern; several are"),
        ("[policies.a]\nindex = ['a', '']", "FILE:2: policies.a.index.1: is no index, alias or pattern"),
        ("[opensearch]\nvary_headers = 'a, b'", "FILE:2: opensearch.vary_headers.0: is no name of a request header"),
        ("[switches]\nfile = ''", "FILE:2: switches.file: names no file"),
        ('templates_dir = "a\\u0000"', "FILE:1: templates_dir: names no file"),
        ("[policies.a]\nindex = 'a'\nfields.b.of = ''", "FILE:3: policies.a.fields.b.of.0: "),
        ("a = " + "[" * 10_000, "FILE: is nested too deep"),
    ],
)
def test_each_fault_says_where_it_is(tmp_path: Path, text: str | bytes, fault: str) -> None:
    assert any(one.startswith(fault) for one in faults(tmp_path, text))


def test_a_number_in_quotes_is_a_number_and_one_with_a_unit_names_the_unit(tmp_path: Path) -> None:
    assert read(tmp_path, "[budget]\ncutoff_ms = '25'\n").budget.cutoff_ms == 25.0
    (fault,) = faults(tmp_path, "[signals]\nmax_lag_s = '30 s'\n")
    assert fault.endswith("not '30 s' (write the number of seconds, such as 1800)")


def test_all_contradictions_of_a_policy_are_named_at_once(tmp_path: Path) -> None:
    text = "[policies.a]\nindex='a'\nmax_depth=120\nwindow_size=100\nexploration_stale_s=1\ndiscovery=0.5\nclass_field='c'\n"
    (fault,) = faults(tmp_path, text + "item_field=''\ntrial={version='default',header='x'}")
    for part in ("set item_field", "exploration_stale_s 1 must", "max_depth 120 must", "is the live template set"):
        assert part in fault
    assert "of type" not in fault
    two = "".join(
        f"[policies.{name}]\nindex='{name}'\nclass_field='{name}'\nfields.b.of='{name}'\nfields.c.half_life_s={at}\n"
        for at, name in enumerate(("a", "b"), 1)
    )
    (fault,) = faults(tmp_path, two)
    assert all(part in fault for part in ("field 'b' has", "field 'c' has", "class_field must be the same"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_file_may_have_any_encoding_and_newline_of_an_editor(tmp_path: Path, encoding: str, newline: str) -> None:
    assert read(tmp_path, FULL.replace("\n", newline).encode(encoding)).policies["shop"].max_boost == 2.0


def test_a_pipe_and_a_huge_file_are_refused_without_being_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="is a pipe"):
        Settings.from_toml(tmp_path / "pipe")
    read_end, write_end = os.pipe()
    os.close(write_end)
    with pytest.raises(ConfigurationError, match="is a pipe"):
        Settings.from_toml(f"/dev/fd/{read_end}")
    os.close(read_end)
    (fault,) = faults(tmp_path, b"#" * (MAX_BYTES + 1))
    assert fault == f"FILE: has more than {MAX_BYTES:,} bytes (name the settings file)"


def test_a_pipe_that_somebody_writes_to_is_read_to_its_end(tmp_path: Path) -> None:
    """As of `rewriter ingest --toml <(sops -d rewriter.toml)`, with text in several parts, the first of them late."""
    wanted = read(tmp_path, FULL).policies
    read_end, write_end = os.pipe()

    def write() -> None:
        with os.fdopen(write_end, "w") as end:
            for part in (FULL[:100], FULL[100:], "#" * 200_000):
                sleep(0.05)
                end.write(part)
                end.flush()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(write)
        assert Settings.from_toml(f"/dev/fd/{read_end}").policies == wanted
        done.result()
    os.close(read_end)


def test_a_pipe_whose_writer_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_file, "PIPE_S", 0.05)
    read_end, write_end = os.pipe()
    os.write(write_end, b"[store]\n")
    with pytest.raises(ConfigurationError, match="is a pipe"):
        Settings.from_toml(f"/dev/fd/{read_end}")
    os.close(read_end)
    os.close(write_end)


def test_thousands_of_faults_take_no_quadratic_time(tmp_path: Path) -> None:
    def took_s(policies: int) -> float:
        text = "".join(f"[policies.p{n}]\nindex = 'p{n}'\nmax_boost = 0\n" for n in range(policies))
        started = thread_time()
        assert faults(tmp_path, text)[-1].startswith(f"FILE:{3 * policies}: policies.p{policies - 1}.max_boost: ")
        return thread_time() - started

    took_s(10)
    assert took_s(1_600) < 40 * min(
        took_s(100) for _ in range(3)
    )  # 16 × where time is linear, 256 × where it is quadratic


def test_no_password_is_shown_wherever_it_stands(tmp_path: Path) -> None:
    text = """
"https://me:secret@a" = 1
[opensearch]
"https://me:secret@b" = 1
[policies."https://me:secret@c"]
index = "c"
"""
    found = faults(tmp_path, text)
    assert len(found) == 3
    assert "secret" not in "".join(found)


def test_a_name_of_any_length_is_cut(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, f'[policies."{"x" * 100_000}"]\nindex = "c"\n')
    assert len(fault) < 300


@pytest.mark.parametrize(
    ("variables", "start"),
    [
        (
            {"REWRITER_BUDGETT__CUTOFF_MS": "5"},
            "environment REWRITER_BUDGETT__CUTOFF_MS: sets nothing (did you mean budget?)",
        ),
        (
            {"REWRITER_POLICES__SHOP__INDEX": "x"},
            "environment REWRITER_POLICES__SHOP__INDEX: sets nothing (did you mean poli",
        ),
        ({"REWRITER_POLICIES__A_B__MAX_BOOST": "2"}, "environment REWRITER_POLICIES__A_B: may mean policies."),
        ({"REWRITER_BUDGET__CUTOFF_MS": "9" * 5_000}, "environment REWRITER_BUDGET__CUTOFF_MS: budget.cutoff_ms: "),
        ({"REWRITER_OPENSEARCH__VARY_HEADERS": "a,b"}, "environment REWRITER_OPENSEARCH__VARY_HEADERS__0: opensearch."),
        (
            {"REWRITER_POLICIES": '{"c": {"trial": {"subjects": ["secret"]}'},
            "environment REWRITER_POLICIES: policies: ",
        ),
    ],
)
def test_faults_of_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], start: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(
        "REWRITER_SWITCH_BUDGETT__SHADOW", "on"
    )  # of the switches of a policy, which has faults of its own
    (fault,) = faults(tmp_path, "[policies.a-b]\nindex = 'a'\n[policies.'a.b']\nindex = 'b'\n")
    assert fault.startswith(start)
    assert "secret" not in fault
    assert len(fault) < 400


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    found = faults(
        tmp_path, "[store]\nurll = 1\nprefix = ''\n[budget]\nsignals_ms = 0\n[policies.a]\nindex = 'a'\nflat = 1\n"
    )
    assert sorted(fault.split(": ")[0] for fault in found) == ["FILE:2", "FILE:3", "FILE:5", "FILE:8"]


@pytest.mark.parametrize("other", ["fields.brand = { of = 'maker' }", "fields.brand = { half_life_s = 5 }"])
def test_a_field_means_the_same_in_every_policy(tmp_path: Path, other: str) -> None:
    text = f"[policies.a]\nindex = 'a'\nfields.brand = {{}}\n[policies.b]\nindex = 'b'\n{other}\n"
    (found,) = faults(tmp_path, text)
    assert "field 'brand' has another `of` or `half_life_s` in policy 'a' than in 'b'" in found


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml: No such file or directory"):
        Settings.from_toml(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("change", [{"max_boost": 3.0}, {"index": ("a",)}])
def test_settings_do_not_change(change: dict[str, Any]) -> None:
    policy = PolicySettings(index=("*",))
    ((name, value),) = change.items()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(policy, name, value)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("templates_dir",), 1),
        (("opensearch", "hosts"), 4),
        (("opensearch", "timeout_s"), 3),
        (("policies", "shop", "fields", "brand", "scale"), 18),
        (("policies", "shop", "fields", "type_brand", "of", "0"), 19),
        (("policies", "rest"), 21),
        (("nothing", "of", "the", "kind"), 1),
    ],
)
def test_where_a_key_is_set_or_the_nearest_table_around_it(keys: tuple[str, ...], line: int) -> None:
    assert line_of(FULL, keys) == line


def test_names_of_policies_that_a_switch_a_variable_or_a_folder_cannot_hold(tmp_path: Path) -> None:
    names = [
        "",
        " ",
        "../x",
        "..",
        ".hidden",
        "-x",
        "a b",
        "a/b",
        "a=b",
        "a#b",
        "x" * 65,
        "ﬁne",
        "Switches",
        "rewriter",
        "_",
        "a\\nb",
    ]
    found = faults(tmp_path, "".join(f'[policies."{name}"]\nindex = "a"\n' for name in names))
    assert len(found) == len(names)
    for line, (name, fault) in enumerate(zip(names, found, strict=True)):
        assert fault.startswith(f"FILE:{2 * line + 1}: policies."), (name, fault)
        assert "a policy's name is 1–64 letters, digits" in fault
    good = ["Schuhe-Männer", "a.b", "0", "靴", "x" * 64]
    settings = read(tmp_path, "".join(f'[policies."{name}"]\nindex = "a"\n' for name in good))
    assert list(settings.policies) == good


def test_a_template_set_lies_in_the_folder_of_templates(tmp_path: Path) -> None:
    for name in (".", "..", ".git", "a/b", ""):
        (fault,) = faults(tmp_path, f'[policies.a]\nindex = "a"\ntemplates = "{name}"\n')
        assert fault.startswith("FILE:3: policies.a.templates: "), fault


def test_the_line_of_a_key_whose_name_is_quoted(tmp_path: Path) -> None:
    text = """[policies . "a.b"]
index = "a"
max_boost = 0
[policies.c]
index = "c"
fields."x.y" = { scale = -1 }
[policies.'d"e']
index = "d"
[signals.action_weights]
"" = 1
"""
    assert [fault.partition(" ")[0] for fault in faults(tmp_path, text)] == [
        "FILE:10:",
        "FILE:3:",
        "FILE:6:",
        "FILE:7:",
    ]
    assert line_of('a = """\n"\\q" = 1\n"""\nb = 2\n', ("b",)) == 4
