"""Which files of a folder are loaded: git's rules held against git itself, links, names, depth, faults of loaders."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vecbench.errors import ConfigError, DocumentError, MissingDependency
from vecbench.rag.load import Unreadable, load
from vecbench.rag.types import Document

NAMES = ["a", "b", "foo", "x.txt", "y.txt", "build"]
segments = st.sampled_from([*NAMES, "*", "*.txt", "**", "f?o", "[ab]", "[!a]", "a[", "b*"])
patterns = st.builds(
    lambda negated, rooted, parts, folder: f"{negated}{rooted}{'/'.join(parts)}{folder}",
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(segments, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)
rules = st.lists(st.one_of(patterns, st.sampled_from(["!", "/", "#x", "", "\\#a", "a "])), min_size=1, max_size=4)
folders = st.lists(st.sampled_from(["a", "b", "foo", "build"]), max_size=3)
files = st.lists(st.tuples(folders, st.sampled_from(NAMES)), min_size=4, max_size=12)


def grow(root: Path, tree: list[tuple[list[str], str]]) -> None:
    for parents, name in tree:
        folder = root.joinpath(*parents)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / name).exists():
                (folder / name).write_text("x")
        except (FileExistsError, NotADirectoryError):
            continue


class AnyName:
    """Reads what has no suffix, too."""

    suffixes = ("", ".txt")

    def load(self, path: Path, source: str) -> Iterator[Document]:
        yield Document("x", source)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@example([(["a"], "x.txt"), (["a"], "y.txt")], ["a/**", "!a/x.txt"], None)  # the folder itself is not ignored
@example([(["b"], "a"), (["b", "a"], "a"), ([], "a")], ["b/**/", "/b/**/**/ "], None)  # only the folders below it
@given(files, rules, st.none() | st.tuples(folders, rules))
def test_ignore_rules_against_git(
    tree: list[tuple[list[str], str]], top: list[str], nested: tuple[list[str], list[str]] | None
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        grow(root, tree)
        (root / ".gitignore").write_text("\n".join(top))
        if nested is not None and (folder := root.joinpath(*nested[0])).is_dir():
            (folder / ".gitignore").write_text("\n".join(nested[1]))
        subprocess.run(["git", "init", "-q", root], check=True)
        listed = subprocess.run(
            ["git", "-C", root, "ls-files", "-z", "-o", "--exclude-per-directory=.gitignore"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\0")
        expected = {source for source in listed if source and not source.endswith(".gitignore")}
        assert {d.source for d in load(root, loaders=[AnyName()])} == expected


@pytest.mark.parametrize("lines", ["!\n/\na[\n", "\xff\xfe", "b.txt\r\n"])
def test_an_ignore_file_with_what_is_no_rule(tmp_path: Path, lines: str) -> None:
    (tmp_path / ".gitignore").write_bytes(lines.encode("latin-1"))
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    assert [d.source for d in load(tmp_path)] == (["a.txt"] if "b.txt" in lines else ["a.txt", "b.txt"])


def test_what_lies_below_a_star_is_not_of_the_star(tmp_path: Path) -> None:
    grow(tmp_path, [([], "x.txt"), (["a"], "x.txt"), (["a", "b"], "x.txt")])
    for pattern, found in {
        "*.txt": ["a/b/x.txt", "a/x.txt", "x.txt"],
        "/*.txt": ["x.txt"],
        "a/*": ["a/x.txt"],
        "a/**": ["a/b/x.txt", "a/x.txt"],
        "**/b/*.txt": ["a/b/x.txt"],
    }.items():
        assert [d.source for d in load(tmp_path, pattern=pattern)] == found, pattern
    for wrong in ("", "!a/*.txt"):
        with pytest.raises(ConfigError, match="pattern is no glob"):
            list(load(tmp_path, pattern=wrong))
    with pytest.raises(ConfigError, match="list of rules"):
        load(tmp_path, ignore="*.txt")


def test_links_of_every_kind(tmp_path: Path) -> None:
    root = tmp_path / "docs"
    grow(root, [([], "x.txt"), (["a"], "y.txt")])
    (root / "self.txt").symlink_to(root / "self.txt")
    (root / "one.txt").symlink_to(root / "two.txt")
    (root / "two.txt").symlink_to(root / "one.txt")
    (root / "broken.txt").symlink_to(root / "nothing")
    (root / "up").symlink_to(tmp_path)
    (root / "again").symlink_to(root / "a")
    reported: list[Unreadable] = []
    assert [d.source for d in load(root, on_error=reported.append)] == ["a/y.txt", "x.txt"]
    assert {r.source: r.reason for r in reported} == {
        "self.txt": "it is a link that leads to itself",
        "one.txt": "it is a link that leads to itself",
        "two.txt": "it is a link that leads to itself",
        "broken.txt": "it is neither a file nor a folder",
        "up": "it is a link that leads out of the folder",
    }
    link = tmp_path / "link"
    link.symlink_to(root)
    assert [d.source for d in load(link, on_error=reported.append)] == ["a/y.txt", "x.txt"]


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems hold UTF-8 names only")
def test_a_name_that_no_store_could_hold_is_reported(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"a\xff.txt")).write_text("x")
    (tmp_path / "b.txt").write_text("b")
    reported: list[Unreadable] = []
    assert [d.source for d in load(tmp_path, on_error=reported.append)] == ["b.txt"]
    assert reported == [Unreadable("a?.txt", "its name is not UTF-8")]


@pytest.fixture
def deep() -> Iterator[Path]:
    """A folder of 1,100 nested ones; not in `tmp_path`, which pytest clears by calls as deep, and would fail."""
    root = Path(tempfile.mkdtemp())
    folders = [root]
    try:
        for _ in range(1100):
            (below := folders[-1] / "d").mkdir()
            folders.append(below)
        (folders[-1] / "x.txt").write_text("deep")
        yield root
    finally:
        (folders[-1] / "x.txt").unlink(missing_ok=True)
        for folder in reversed(folders):
            folder.rmdir()


def test_folders_nested_deeper_than_python_calls(deep: Path) -> None:
    (document,) = load(deep)
    assert (document.text, document.source.count("/")) == ("deep", 1100)


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder that is open to all; where the tests run as root, who may read everything, the test runs as another."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        if user == 0:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)


def test_what_may_not_be_read(as_nobody: Path) -> None:
    grow(as_nobody, [(["a"], "x.txt"), ([], "y.txt"), ([], "x.txt")])
    (as_nobody / "a").chmod(0)
    (as_nobody / "y.txt").chmod(0)
    reported: list[Unreadable] = []
    try:
        assert [d.source for d in load(as_nobody, on_error=reported.append)] == ["x.txt"]
    finally:
        (as_nobody / "a").chmod(0o700)
    assert {r.source: r.reason for r in reported} == {"a": "Permission denied", "y.txt": "Permission denied"}


def test_a_loader_that_fails_costs_its_file_only(tmp_path: Path) -> None:
    class Failing:
        suffixes = (".txt",)

        def __init__(self, error: Exception) -> None:
            self.error = error

        def load(self, path: Path, source: str) -> Iterator[Document | Unreadable]:
            yield Document("first", f"{source}#1")
            yield Unreadable(f"{source}#2", "a part")
            if path.name == "x.txt":
                raise self.error

    grow(tmp_path, [([], "x.txt"), ([], "y.txt")])
    for error in (
        KeyError("k"),
        RecursionError("deep"),
        MemoryError(),
        DocumentError("damaged"),
        OSError(5, "I/O error"),
    ):
        reported: list[Unreadable] = []
        found = [d.source for d in load(tmp_path, loaders=[Failing(error)], on_error=reported.append)]
        assert found == ["x.txt#1", "y.txt#1"]
        assert [r.source for r in reported] == ["x.txt#2", "x.txt", "y.txt#2"]
        with pytest.raises(DocumentError, match=r"x\.txt: "):
            list(load(tmp_path / "x.txt", loaders=[Failing(error)], on_error=reported.append))
    missing = MissingDependency("Reading", module="reader", extra="rag")  # is wrong with every file alike
    with pytest.raises(MissingDependency, match="reader"):
        list(load(tmp_path, loaders=[Failing(missing)], on_error=lambda _: None))


def test_an_unreadable_rule_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").mkdir()
    (tmp_path / "a.txt").write_text("a")
    reported: list[Unreadable] = []
    assert [d.source for d in load(tmp_path, on_error=reported.append)] == ["a.txt"]
    assert [(r.source, r.reason) for r in reported] == [(".gitignore", "Is a directory: its rules are not followed")]
