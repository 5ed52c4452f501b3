"""Sources of switches: valid and refused values, and the switches that hold while a source fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from rewriter import ConfigurationError, Settings
from rewriter.decide.switches import Switches, SwitchValue
from rewriter.settings import PolicySettings, SwitchSettings
from rewriter.shell.background.switch_sources import SwitchSources, refuse_wrong_switches

NOTHING: Mapping[str, str] = {}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "switches"


def settings(file: Path) -> Settings:
    policies = {"shoes": PolicySettings(index=("shoes",)), "my-books": PolicySettings(index=("books",))}
    return Settings(switches=SwitchSettings(file=file), policies=policies)


def values(sources: SwitchSources, polls: int = 2, environment: Mapping[str, str] = NOTHING) -> dict[str, SwitchValue]:
    for _ in range(polls):
        sources.read_local(environment)
    return dict(sources.combine_sources(Switches()).values)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("personalization of", "`personalization` is on or off, not 'of'"),
        ("personalization", "is not a switch"),
        ("rollout 1.5", "`rollout` lies in [0, 1], not '1.5'"),
        ("holdout nan", "`holdout` is a number, not 'nan'"),
        ("holdout 0.1\nholdout 0.2", "`holdout` is set twice, to different values"),
        ('{"rollout": 0.1, "rollout": 0.2}', "`rollout` is set twice, to different values"),
        ('{"personalization": fal', "is not JSON"),
        ("\xff", "is not a switch"),
    ],
)
def test_a_wrong_switch_is_refused_by_check_and_changes_nothing_later(file: Path, text: str, fault: str) -> None:
    file.write_text("personalization off\nrollout 0.25")
    sources = SwitchSources(settings(file))
    before = values(sources)
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError) as refused:
        refuse_wrong_switches(settings(file), NOTHING)
    assert fault in str(refused.value)
    assert str(file) in str(refused.value)
    assert values(sources) == before == {"personalization": False, "rollout": 0.25}
    assert [str(one) for one in sources.faults] == [str(one) for one in refused.value.faults]


@pytest.mark.parametrize(
    "text",
    [
        "personalization on\npersonalization off\n",
        "personalization off\npersonalization on\n",
        '{"personalization": true, "personalization": false}',
        "personalization on\noff",
        "disable personalization",
        "Off: personalisation",
        "stop personalization!",
        "personalization off.",
        "OFF!",
    ],
)
def test_an_off_that_is_written_in_a_hurry_is_off(file: Path, text: str) -> None:
    file.write_text("personalization on\nrollout 0.25")
    sources = SwitchSources(settings(file))
    assert values(sources) == {"personalization": True, "rollout": 0.25}
    file.write_text(text)
    assert values(sources)["personalization"] is False
    file.write_text("enable personalization")
    assert values(sources)["personalization"] is True
    file.write_text("shoes.personalization on\nshoes.personalization off")
    assert values(sources)["shoes.personalization"] is False
    assert [fault.where for fault in sources.faults] == [f"{file}:2"]


@pytest.mark.parametrize(
    "text", ["rollout 0", "rollout 1", "holdout 0\nholdout 0.0", "shoes.holdout = 1", "# nothing", ""]
)
def test_shares_of_0_and_1_are_legal(file: Path, text: str) -> None:
    file.write_text(text)
    refuse_wrong_switches(settings(file), NOTHING)


def test_a_file_that_is_not_there_yet_is_fine_but_its_folder_must_be(tmp_path: Path) -> None:
    refuse_wrong_switches(settings(tmp_path / "not-yet"), NOTHING)
    with pytest.raises(ConfigurationError, match="folder does not exist"):
        refuse_wrong_switches(settings(tmp_path / "typo" / "switches"), NOTHING)


def test_the_environment_is_refused_with_the_file_all_at_once(file: Path) -> None:
    file.write_text("rollout 2")
    with pytest.raises(ConfigurationError) as refused:
        refuse_wrong_switches(settings(file), {"REWRITER_SWITCH_HOLDOUT": "-1"})
    assert len(refused.value.faults) == 2


def test_a_new_text_is_believed_at_the_second_poll_that_reads_it(file: Path) -> None:
    sources = SwitchSources(settings(file))
    assert values(sources) == {}
    file.write_text("personalization off")
    assert values(sources, polls=1) == {}
    assert values(sources, polls=1) == {"personalization": False}


@pytest.mark.parametrize("half", ["", "personalization", "personalization off\nrollout 0."])
def test_a_writer_caught_half_way_changes_nothing(file: Path, half: str) -> None:
    file.write_text("personalization off\nrollout 0.5")
    sources = SwitchSources(settings(file))
    before = values(sources)
    file.write_text(half)
    assert values(sources, polls=1) == before
    file.write_text("personalization off\nrollout 0.5")
    assert values(sources, polls=1) == before
    assert not sources.faults


def rewrite_in_place(file: Path, text: str) -> None:
    file.write_text(text)


def replace_at_once(file: Path, text: str) -> None:
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.replace(file)


def swap_a_symlink(file: Path, text: str) -> None:
    """As Kubernetes updates a ConfigMap: the file is a link into a folder that is itself a link."""
    folder = file.with_name(f"version-{len(list(file.parent.iterdir()))}")
    folder.mkdir()
    (folder / "switches").write_text(text)
    data, new = file.with_name("data"), file.with_name("data.new")
    new.symlink_to(folder)
    new.replace(data)
    if not file.is_symlink():
        file.unlink(missing_ok=True)
        file.symlink_to(data / "switches")


@pytest.mark.parametrize("write", [rewrite_in_place, replace_at_once, swap_a_symlink])
def test_however_the_file_is_written(file: Path, write: Callable[[Path, str], None]) -> None:
    sources = SwitchSources(settings(file))
    for text, expected in (("rollout 0.1", 0.1), ("rollout 0.2", 0.2)):
        write(file, text)
        os.utime(file, (1, 1))  # its times may say whatever they like
        assert values(sources) == {"rollout": expected}


def test_taking_the_file_away_releases_it_and_losing_its_folder_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "mount"
    folder.mkdir()
    file = folder / "switches"
    file.write_text("personalization off")
    sources = SwitchSources(settings(file))
    assert values(sources) == {"personalization": False}
    folder.rename(tmp_path / "away")
    assert values(sources) == {"personalization": False}
    assert sources.faults
    (tmp_path / "away").rename(folder)
    file.unlink()
    assert values(sources) == {}
    assert not sources.faults


def test_file_over_environment_over_store(file: Path) -> None:
    sources = SwitchSources(settings(file))
    sources.take_store_value(
        '{"rollout": 0.1, "holdout": 0.1, "shadow": true, "shoes.personalization": true}', "rw:switches"
    )
    file.write_text("rollout 0.3\npersonalization off")
    environment = {
        "REWRITER_SWITCH_ROLLOUT": "0.2",
        "REWRITER_SWITCH_HOLDOUT": "0.2",
        "REWRITER_SWITCH_MY_BOOKS__SHADOW": "off",
    }
    told = values(sources, environment=environment)
    expected = {"rollout": 0.3, "holdout": 0.2, "shadow": True, "my-books.shadow": False, "personalization": False}
    assert told == expected


def test_a_change_leaves_a_line_that_says_what_and_who(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    sources = SwitchSources(settings(file))
    file.write_text("personalization off\nrollout 0.5")
    values(sources)
    assert [record.message for record in caplog.records] == [
        "switch personalization: default -> off (file)",
        "switch rollout: default -> 0.5 (file)",
    ]


@pytest.mark.parametrize("gone", ["the file", "its folder"])
def test_a_link_whose_end_is_gone_releases_nothing(tmp_path: Path, gone: str) -> None:
    """A volume that is not mounted for a moment must not switch on what somebody switched off."""
    (volume := tmp_path / "volume").mkdir()
    (there := volume / "switches").write_text("personalization off")
    (file := tmp_path / "switches").symlink_to(there)
    sources = SwitchSources(settings(file))
    assert values(sources) == {"personalization": False}
    there.unlink()
    if gone == "its folder":
        volume.rmdir()
    assert values(sources) == {"personalization": False}
    assert "leads nowhere" in str(sources.faults)
    assert values(SwitchSources(settings(file))) == {"personalization": False}, "a process that starts cannot tell"
    file.unlink()
    assert (values(sources), sources.faults) == ({}, [])


@pytest.mark.skipif(not Path("/dev/ptmx").exists(), reason="there are no terminals")
def test_a_switch_file_that_is_a_terminal_is_a_fault(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    try:
        (file := tmp_path / "switches").symlink_to(os.ttyname(theirs))
        sources = SwitchSources(settings(file))
        assert values(sources) == {"personalization": False}
        assert sources.faults
    finally:
        os.close(ours)
        os.close(theirs)
