"""The pages of the documentation as text: headings, links, code, and the commands in them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from helpers.environment import ROOT
from markdown.extensions.toc import slugify

DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in (ROOT / "README.md", ROOT / "launch" / "README.md", *sorted(DOCS.rglob("*.md")))
    if not path.is_symlink()
}
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Fence(NamedTuple):
    """A block of code: its language ("" where commands are) and its text."""

    language: str
    text: str


def fences(page: str) -> list[Fence]:
    return [Fence(m[2], m[3]) for m in _FENCE.finditer(PAGES[page].read_text())]


def prose(page: str) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", PAGES[page].read_text())


def inline(page: str) -> list[str]:
    """What stands between backticks, on one line or more."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


def commands(page: str) -> list[list[str]]:
    """The words of every command in blocks without a language."""
    lines = [
        line
        for fence in fences(page)
        if not fence.language
        for line in fence.text.replace("\\\n", " ").splitlines()
    ]
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for words in found if words]


def links(page: str) -> list[str]:
    """Targets of links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(page)))


def anchors(page: str) -> set[str]:
    """What may stand behind # in a link: headings, and what the reference describes."""
    text = prose(page)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {slugify(re.sub(r"[`*]", "", title), "-") for title in titles} | set(described(page))


def described(page: str) -> list[str]:
    """The Python names whose docstrings a page shows."""
    return re.findall(r"^::: (\S+)$", prose(page), re.MULTILINE)


def named(path: Path) -> str | None:
    """The page of a file, through links of the file system."""
    found = str(path.resolve().relative_to(ROOT))
    return found if found in PAGES else None


def code_of(page: str) -> str:
    """All Python of a page."""
    return "\n".join(f.text for f in fences(page) if f.language == "python")


def shapes(code: str) -> dict[str, list[str]]:
    """What comments tell: `name = ...  # float32 [16, 16, 1]`."""
    found = re.findall(r"^(\w+) = .*#[ \w]*\[([\dL, ]+)\]", code, re.MULTILINE)
    return {name: shape.replace(" ", "").split(",") for name, shape in found}


def does_what_it_says(page: str) -> None:
    """Runs a page's code; the arrays that it makes have the shapes that its comments tell."""
    names = {}
    exec(compile(code_of(page), page, "exec"), names)
    for name, shape in shapes(code_of(page)).items():
        made = [str(n) if s != "L" else s for n, s in zip(names[name].shape, shape, strict=True)]
        assert made == shape, f"{page}: {name}"
