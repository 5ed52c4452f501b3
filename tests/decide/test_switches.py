"""Switches: spellings, precedence of sources, and that an unreadable value changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from rewriter.decide.switch_text import SwitchesRead, from_environment, others_in, parse, switch_of
from rewriter.decide.switches import KILL, Switches, SwitchValue, combined

POLICIES = frozenset({"shop", "help"})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("  \n# nothing here\n", {}),
        ("personalization off", {"personalization": False}),
        ("personalization: OFF  # the cluster is on fire", {"personalization": False}),
        ("exploration=on\nshadow 1", {"exploration": True, "shadow": True}),
        ("rollout 0.25\nholdout 0", {"rollout": 0.25, "holdout": 0.0}),
        ("shop.personalization off\nhelp.max_boost 1.2", {"shop.personalization": False, "help.max_boost": 1.2}),
        ('{"personalization": false, "rollout": 1}', {"personalization": False, "rollout": 1.0}),
        ('{"shop.exploration_share": 0.2}', {"shop.exploration_share": 0.2}),
        ("max_boost 1", {"max_boost": 1.0}),
    ],
)
def test_each_spelling_of_switches_is_understood(text: str, values: Mapping[str, SwitchValue]) -> None:
    assert parse(text, "here", POLICIES) == SwitchesRead(dict(values))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("personalization", "here:1: is not a switch (write `personalization off`)"),
        ("\npersonalization soon off and on", "here:2: is not a switch (write `personalization off`)"),
        ("{rollout: off}", "here: is not JSON: "),
        ('{"a":' * 100_000, "here: is not JSON: "),
        ("personalization maybe", "here:1: `personalization` is on or off, not 'maybe'"),
        ('{"personalization": null}', "here: `personalization` is on or off, not None"),
        ("personalizaton off", "here:1: no switch is named 'personalizaton' (did you mean personalization?)"),
        ("kill 1", "here:1: no switch is named 'kill' (there are personalization, exploration, "),
        ("rollout lots", "here:1: `rollout` is a number, not 'lots'"),
        ("rollout nan", "here:1: `rollout` is a number, not 'nan'"),
        ('{"rollout": true}', "here: `rollout` is a number, not True"),
        ('{"rollout": [1]}', "here: `rollout` is a number, not [1]"),
        ("rollout 1.5", "here:1: `rollout` lies in [0, 1], not '1.5'"),
        ("exploration_share 0.05", "here:1: `exploration_share` is 0 (off) or lies in [0.1, 0.2], not '0.05'"),
        ("max_boost 0.5", "here:1: `max_boost` lies in [1, 10], not '0.5'"),
        ("max_boost inf", "here:1: `max_boost` is a number, not 'inf'"),
    ],
)
def test_what_is_not_understood_says_nothing_but_a_fault(text: str, fault: str) -> None:
    read = parse(text, "here", POLICIES)
    assert (read.values, read.foreign) == ({}, [])
    assert [str(one).startswith(fault) for one in read.faults] == [True], read.faults


def test_every_fault_is_named_and_what_is_right_counts() -> None:
    read = parse("please stop it\nshadow on\nrollout 2\nnonsense 1\npersonalization off", "here", POLICIES)
    assert read.values == {"shadow": True, "personalization": False}
    assert [fault.where for fault in read.faults] == ["here:1", "here:3", "here:4"]
    assert read.unclear == {"rollout"}


@pytest.mark.parametrize("off", ["off", "OFF", "Off", "false", "FALSE", "no", "No", "0", "disabled", "Disable"])
@pytest.mark.parametrize(
    "line",
    [
        "personalization {}",
        "personalisation {}",
        "PERSONALISATION={}",
        "Personalization: {}",
        "personalization\t=\t{}\r",
        "\ufeffpersonalization {}",
        '"personalization": "{}",',
        "personalization = '{}';",
        '{{"personalization": "{}"}}',
        '\ufeff{{"Personalisation": "{}"}}',
        "{}",
        "# by ann\r\n{}\r\n",
    ],
)
def test_off_is_off_however_it_is_written(line: str, off: str) -> None:
    assert parse(line.format(off), "here", POLICIES) == SwitchesRead({KILL: False})


@pytest.mark.parametrize("on", ["on", "ON", "true", "yes", "1", "enabled"])
def test_on_is_on_however_it_is_written(on: str) -> None:
    assert parse(f"Shop.Personalisation {on}", "here", POLICIES) == SwitchesRead({"shop.personalization": True})


@pytest.mark.parametrize(
    ("text", "unclear"),
    [
        ("personalization of", {KILL}),
        ("personalization off\npersonalization on", set()),
        ("rollout 0\nrollout 1", {"rollout"}),
        ("shop.personalization maybe", {"shop.personalization"}),
        ("please stop it", {KILL}),
        ("personalization maybe off, maybe on", {KILL}),
        ("personalizaton off", {KILL}),
        ('{"personalise": false}', {KILL}),
        ("---", {KILL}),
        ("rollout is 0", {"rollout"}),
        ('{"rollout": off}', {KILL}),
        ("personalization off\npersonalization of", set()),
        ("typo off", set()),
        ("toys.personalization maybe", set()),
    ],
)
def test_what_may_have_been_meant_to_switch_off_is_unclear(text: str, unclear: set[str]) -> None:
    assert parse(text, "here", POLICIES).unclear == unclear


@pytest.mark.parametrize(
    "text",
    [
        "personalization off now",
        "personalization is off",
        "turn off personalization",
        "- Personalisation: off  // see the ticket",
        "personalization off, exploration off",
        "export REWRITER_SWITCH_PERSONALIZATION=off",
        "{personalization: off}",
        "{'personalization': False}",
        '{"personalization": false,}',
    ],
)
def test_a_sentence_that_says_off_switches_off(text: str) -> None:
    read = parse(text, "here", POLICIES)
    assert (read.values.get(KILL), read.unclear) == (False, frozenset())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("personalization -> off", KILL),
        ("\u200fpersonal\u00adization off\0\0", KILL),
        (
            "\uff50\uff45\uff52\uff53\uff4f\uff4e\uff41\uff4c\uff49\uff5a\uff41\uff54\uff49\uff4f\uff4e \uff4f\uff46\uff46",
            KILL,
        ),
        ("\u201cpersonalization\u201d \u201coff\u201d", KILL),
        ("REWRITER_SWITCH_PERSONALISATION=no", KILL),
        ("rewriter_switch_shop__personalization=off", "shop.personalization"),
        ("*.personalization off", KILL),
        ('{"personalization": 0.0}', KILL),
        ('{"switches": {"personalization": "n"}}', KILL),
        ('{"shop": {"personalization": "stop"}}', "shop.personalization"),
    ],
)
def test_what_is_copied_from_elsewhere_is_read(text: str, name: str) -> None:
    assert parse(text, "here", POLICIES) == SwitchesRead({name: False})
    kept = [line for line in text.splitlines() if switch_of(line, POLICIES) != name]
    assert (others_in(text, POLICIES) if text.startswith("{") else kept) in ([], {})


@pytest.mark.parametrize(
    "text", ["toys.personalization off\nshop.shadow on", '{"toys.max_boost": 9, "shop.shadow": true}']
)
def test_another_service_s_policies_are_named_and_no_fault(text: str) -> None:
    read = parse(text, "here", POLICIES)
    assert (read.values, read.faults, read.unclear) == ({"shop.shadow": True}, [], frozenset())
    assert [one.what for one in read.foreign] == ["no policy is named 'toys'"]
    assert list(others_in(text, POLICIES)) in (["toys.personalization"], ["toys.max_boost"])


def test_the_environment_speaks_in_capitals() -> None:
    environment = {"REWRITER_SWITCH_PERSONALIZATION": "off", "REWRITER_SWITCH_ROLLOUT": "2", "PATH": "/bin"}
    read = from_environment(environment, POLICIES)
    assert read.values == {"personalization": False}
    assert [str(fault) for fault in read.faults] == ["REWRITER_SWITCH_ROLLOUT: `rollout` lies in [0, 1], not '2'"]


def test_a_variable_switches_every_policy_that_is_written_so() -> None:
    policies = frozenset({"a-b", "a.b", "A_b", "shop"})
    read = from_environment({"REWRITER_SWITCH_A_B__PERSONALIZATION": "off"}, policies)
    assert read.values == dict.fromkeys(("a-b.personalization", "a.b.personalization", "A_b.personalization"), False)
    assert not read.faults


@pytest.mark.parametrize(
    ("store", "environment", "file", "expected", "source"),
    [
        ({}, {}, {}, True, None),
        ({"personalization": False}, {}, {}, False, "store"),
        ({"personalization": False}, {"personalization": True}, {}, True, "environment"),
        ({"personalization": True}, {"personalization": True}, {"personalization": False}, False, "file"),
        ({"shop.personalization": True}, {}, {"personalization": False}, False, "file"),
        ({"personalization": False, "shop.personalization": True}, {}, {}, True, "store"),
        ({"help.personalization": False}, {}, {}, True, None),
        ({}, {"personalization": True}, {"shop.personalization": False}, False, "environment"),
    ],
    ids=[
        "nobody spoke: the settings",
        "the store's word",
        "the environment is stronger than the store",
        "the file is stronger than both",
        "a stronger general word beats a weaker policy's",
        "a policy's word beats the general one of the same source",
        "another policy's word is not ours",
        "a stronger policy's word beats a weaker general one",
    ],
)
def test_file_overrides_environment_overrides_store(
    store: Mapping[str, SwitchValue],
    environment: Mapping[str, SwitchValue],
    file: Mapping[str, SwitchValue],
    expected: bool,
    source: str | None,
) -> None:
    switches = combined([("store", store), ("environment", environment), ("file", file)])
    assert switches.of("personalization", "shop", default=True) is expected
    assert switches.sources.get("personalization") == source or "." in "".join(switches.sources)


def test_without_a_value_the_default_holds() -> None:
    assert Switches().of("rollout", None, 0.5) == 0.5
