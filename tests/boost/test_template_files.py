"""Files in a template set's folder: foreign ones change nothing, wrong ones harm no other set, and the last good set serves."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rewriter import ConfigurationError, Settings
from rewriter.boost.templates import TemplateSet
from rewriter.boost.validation import compile_set
from rewriter.core import Core
from rewriter.shell.background.refresh import Refresh
from rewriter.shell.template_files import MAX_FILE_BYTES, load_templates, packaged_templates, template_files

BOOSTS = "boosts.json.j2"
OWN = "[{% if affinities %}{% endif %}]"


class Rig:
    """Two policies with a template set each, and the round that reloads them."""

    def __init__(self, folder: Path, name: str = "own") -> None:
        self.folder, self.name = folder, name
        for one in (name, "other"):
            shutil.copytree(packaged_templates() / "default", folder / one)
            (folder / one / BOOSTS).write_text(OWN)
        self.settings = Settings.model_validate(
            {
                "templates_dir": str(folder),
                "policies": {
                    "first": {"index": "a", "templates": name},
                    "second": {"index": "b", "templates": "other"},
                },
            }
        )
        self.core = Core(self.settings, load_templates(self.settings))
        self.refresh = Refresh(self.core, time.monotonic, time.time, has_store=False)
        self.refresh.templates()

    @property
    def own(self) -> Path:
        return self.folder / self.name

    def versions(self) -> tuple[str, str]:
        """Return the versions in use after another round, in which the second policy's set has changed."""
        (self.folder / "other" / BOOSTS).write_text(f"{OWN}{{# {time.monotonic_ns()} #}}")
        self.refresh.templates()
        used = self.core.snapshot.templates
        return used["first"].version, used["second"].version


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def link(path: Path, to: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(to)


def a_file_for(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


def a_loop_for(path: Path) -> None:
    shutil.rmtree(path)
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


FOREIGN: dict[str, Callable[[Path], object]] = {
    "an editor's lock": lambda own: link(own / f".#{BOOSTS}", "ann@host.4711:1"),
    "a file system's attributes": lambda own: (own / f"._{BOOSTS}").write_bytes(b"\0\5\x16\7\xff\xfe"),
    "an editor's swap file": lambda own: (own / "samples" / ".known.json").write_bytes(b"b0VIM\xff"),
    "a pipe of another name": lambda own: pipe(own / "notes.j2"),
    "a folder of another name": lambda own: folder(own / "old.j2"),
    "a copy in Latin-1": lambda own: (own / "boosts.json copy.j2").write_bytes(b"\xe9"),
    "a name in Latin-1": lambda own: Path(os.fsdecode(os.fsencode(own) + b"/caf\xe9.j2")).write_text("{{"),
}


@pytest.mark.parametrize("put", FOREIGN.values(), ids=list(FOREIGN))
def test_a_file_that_is_no_template_of_the_set_changes_nothing(rig: Rig, put: Callable[[Path], object]) -> None:
    before = rig.core.snapshot.templates
    put(rig.own)
    first, second = rig.versions()
    assert (first, rig.refresh.faults) == (before["first"].version, [])
    assert second != before["second"].version
    assert load_templates(rig.settings)["first"].version == first, "a process starts with it too"


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (lambda own: pipe(own / BOOSTS), "is a pipe"),
    "a sample that is a pipe": (lambda own: pipe(own / "samples" / "more.json"), "is a pipe"),
    "a folder": (lambda own: folder(own / BOOSTS), "cannot be read"),
    "a link to itself": (lambda own: link(own / BOOSTS, BOOSTS), "cannot be read"),
    "a link to nothing": (lambda own: link(own / "exploration.json.j2", "../elsewhere"), "cannot be read"),
    "zeros without end": (lambda own: link(own / BOOSTS, "/dev/zero"), "has more than"),
    "a large file": (lambda own: (own / BOOSTS).write_text("[" + " " * MAX_FILE_BYTES + "]"), "has more than"),
    "a large sample": (lambda own: (own / "samples" / "more.json").write_text("1" * (MAX_FILE_BYTES + 1)), "has more"),
    "another encoding": (lambda own: (own / BOOSTS).write_bytes(OWN.encode() + b"{# \xe9 #}"), "cannot be read"),
    "half of it": (lambda own: (own / BOOSTS).write_text(OWN[:20]), "end of template"),
    "no text": (lambda own: (own / BOOSTS).write_text(""), "is not JSON"),
    "a folder that is gone": (shutil.rmtree, "is not a folder"),
    "a file for the folder": (a_file_for, "is not a folder"),
    "a folder that leads to itself": (a_loop_for, "is not a folder"),
}


@pytest.mark.parametrize(("put", "what"), WRONG.values(), ids=list(WRONG))
@pytest.mark.parametrize("name", ["own", "default"])
def test_the_last_good_set_serves_and_the_others_are_reloaded(
    tmp_path: Path, name: str, put: Callable[[Path], object], what: str
) -> None:
    """A set named `default` must not become the packaged one of that name, which other people wrote."""
    rig = Rig(tmp_path, name)
    before = rig.core.snapshot.templates
    shutil.copytree(rig.own, tmp_path / "kept")
    put(rig.own)
    first, second = rig.versions()
    assert first == before["first"].version
    assert second != before["second"].version
    assert what in " ".join(rig.refresh.faults)
    shutil.rmtree(rig.own, ignore_errors=True)
    rig.own.unlink(missing_ok=True)
    (tmp_path / "kept" / BOOSTS).write_text(OWN + "{# mended #}")
    (tmp_path / "kept").rename(rig.own)
    assert rig.versions()[0] not in (before["first"].version, first)
    assert rig.refresh.faults == []


def test_a_name_that_no_folder_can_have_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a folder"):
        template_files(tmp_path / ("n" * 300))


def test_the_faults_of_a_sample_are_named_up_to_a_number(rig: Rig) -> None:
    (rig.own / "samples" / "more.json").write_text('{"affinities": [' + ", ".join(['{"kind": 1}'] * 500) + "]}")
    with pytest.raises(ConfigurationError) as caught:
        load_templates(rig.settings)
    assert len(caught.value.faults) < 20
    assert "more faults" in str(caught.value.faults[-1])


def test_an_error_with_one_set_is_raised_after_the_others_were_loaded(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:

    def failing(name: str, *rest: object) -> TemplateSet:
        if name == "own":
            raise MemoryError
        return compile_set(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("rewriter.shell.background.refresh.compile_set", failing)
    (rig.own / BOOSTS).write_text(OWN + "{# another #}")
    before = rig.core.snapshot.templates
    rig.core.journal.note("a test", "a line", 0.0)
    with pytest.raises(MemoryError):
        rig.versions()
    used = rig.core.snapshot.templates
    assert (used["first"], used["second"]) == (before["first"], used["second"])
    assert used["second"].version != before["second"].version
    assert rig.core.journal.drain(1e9) == []
