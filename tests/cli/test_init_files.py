"""The files of `rewriter init`: all of them or none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rewriter.cli.init.output_files import put, refuse_existing, staged
from rewriter.errors import ConfigurationError

FILES = {"templates/shop/boosts.json.j2": "[]", "rewriter.schema.json": "{}", "rewriter.toml": "new"}


def everything(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def written(folder: Path, *, force: bool = False) -> None:
    with staged(folder, FILES) as stage:
        put(stage, folder, FILES, force=force)


def test_all_files_are_put_and_nothing_else_is_left(tmp_path: Path) -> None:
    written(tmp_path / "new" / "folder")
    assert everything(tmp_path / "new" / "folder") == FILES


def test_files_that_exist_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "rewriter.toml").write_text("old")
    (tmp_path / "rewriter.schema.json").symlink_to("nowhere")
    with pytest.raises(ConfigurationError) as caught:
        refuse_existing(tmp_path, FILES)
    assert [Path(one.where).name for one in caught.value.faults] == ["rewriter.schema.json", "rewriter.toml"]


def test_a_file_that_came_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "rewriter.toml").write_text("old")
    with pytest.raises(ConfigurationError, match=r"rewriter\.toml: exists"):
        written(tmp_path)
    assert everything(tmp_path) == {"rewriter.toml": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["rewriter.toml"]


def test_force_replaces_files_and_leaves_others(tmp_path: Path) -> None:
    (tmp_path / "templates" / "shop").mkdir(parents=True)
    (tmp_path / "templates" / "shop" / "own.json").write_text("mine")
    (tmp_path / "rewriter.toml").write_text("old")
    written(tmp_path, force=True)
    assert everything(tmp_path) == FILES | {"templates/shop/own.json": "mine"}


def test_force_takes_everything_back_where_one_file_cannot_be_put(tmp_path: Path) -> None:
    (tmp_path / "rewriter.schema.json").write_text("old")
    (tmp_path / "rewriter.toml").mkdir()
    with pytest.raises(ConfigurationError, match=r"rewriter\.toml: .*nothing was written"):
        written(tmp_path, force=True)
    assert everything(tmp_path) == {"rewriter.schema.json": "old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rewriter.schema.json", "rewriter.toml"]


def test_a_folder_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--to names another folder"):
        written(tmp_path / "file" / "below")


def test_ctrl_c_takes_everything_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rewriter.schema.json").write_text("old")
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if target.name == "rewriter.toml" and self.name == target.name:
            raise KeyboardInterrupt
        return replace(self, target)

    (tmp_path / "rewriter.toml").write_text("old")
    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, force=True)
    assert everything(tmp_path) == {"rewriter.schema.json": "old", "rewriter.toml": "old"}


def test_without_hard_links_a_file_is_still_put_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(Path, "read_bytes", refused)
    written(tmp_path / "new")
    assert everything(tmp_path / "new") == FILES
    (tmp_path / "new" / "rewriter.toml").write_text("old")
    with pytest.raises(ConfigurationError, match="exists"):
        written(tmp_path / "new")
