"""Parts of a page that a command writes anew: each lies between two markers."""

from __future__ import annotations


def replaced(page: str, begin: str, end: str, part: str, where: object) -> str:
    """Return a page's text with `part` on lines of its own between two markers.

    where: the page's path, for the ValueError that is raised if the markers are missing.
    """
    before, first, rest = page.partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise ValueError(f"{where} has no {begin} … {end}")
    return f"{before}{begin}\n{part}\n{end}{after}"
