"""The drafts of a preview: versions of a policy that are not live, such as the template set of a trial."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rewriter.boost.validation import BOOSTS_FILE
from rewriter.cli.diff.versions import opened
from rewriter.settings import Settings
from rewriter.shell.template_files import template_folder


class Drafts:
    """Drafts by name: a template set of `templates_dir`, a folder with one or with settings, or a git revision."""

    def __init__(self, names: Sequence[str], toml: Path, policy: str) -> None:
        self._names, self._toml, self._policy = names, toml, policy

    def folders(self, live: Settings) -> list[Path]:
        """Return the folders that a change of the live templates, or of a draft, changes files in."""
        found = [template_folder(live, live.policies[self._policy].templates)]
        for name in self._names:
            own = template_folder(live, name)
            found += [one for one in (own, Path(name)) if one.is_dir()][:1]
        return found

    def opened(self, live: Settings) -> Iterator[tuple[str, Settings]]:
        """Yield the end of a page's label and the settings: the live ones first, then each draft's.

        Raises ConfigurationError for a name that is none of these, and for a version that does not load.
        """
        yield "", live
        for name in self._names:
            with tempfile.TemporaryDirectory(prefix="rewriter-") as scratch:
                yield f", draft {name}", self._of(name, live, Path(scratch))

    def _of(self, name: str, live: Settings, scratch: Path) -> Settings:
        if (template_folder(live, name) / BOOSTS_FILE).is_file():
            chosen = live.policies[self._policy].model_copy(update={"templates": name})
            return live.model_copy(update={"policies": {self._policy: chosen}})
        return opened(name, self._toml, self._policy, scratch).settings
