"""Archives of strangers: unpacked whole and inside their folder, or not at all."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from vecbench.errors import DatasetError
from vecbench.formats.unpack import unpack


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as file:
        for member, content in members:
            file.writestr(member, content)
    return out.getvalue()


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as file:
        for member, content in members:
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return out.getvalue()


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def symlink_in_zip() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("a")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


WORDS = b" ".join(b"%d" % number for number in range(250))


def damaged(archive: bytes) -> bytes:
    """Bytes of the content are others; the headers are as they were."""
    return archive[:100] + bytes(byte ^ 0x5A for byte in archive[100:160]) + archive[160:]


ARCHIVES: list[tuple[str, bytes, str]] = [
    ("a.zip", zipped(("../evil", b"x")), "outside the folder"),
    ("a.zip", zipped(("a/../../evil", b"x")), "outside the folder"),
    ("a.zip", zipped(("/evil", b"x")), "outside the folder"),
    ("a.zip", zipped(("C:evil", b"x")), "outside the folder"),
    ("a.zip", zipped((symlink_in_zip(), b"/etc/passwd")), "link or a device"),
    ("a.zip", zipped(("a", b"x" * 1001)), "more than 1,000 bytes"),
    ("a.zip", zipped(("a", b"x" * 600), ("b", b"x" * 600)), "more than 1,000 bytes"),
    ("a.zip", b"no zip", "cannot be unpacked"),
    ("a.zip", zipped(("a", b"xyz" * 99))[:-30], "cannot be unpacked"),
    ("a.zip", damaged(zipped(("a", WORDS))), "cannot be unpacked"),  # zlib.error
    ("a.zip", damaged(zipped(("a", WORDS), how=zipfile.ZIP_LZMA)), "cannot be unpacked"),
    ("a.zip", damaged(zipped(("a", WORDS), how=zipfile.ZIP_BZIP2)), "cannot be unpacked"),
    ("a.tar.gz", damaged(tarred((tarfile.TarInfo("a"), WORDS))), "cannot be unpacked"),
    ("a.tar.gz", tarred((tarfile.TarInfo("../evil"), b"x")), "outside the folder"),
    ("a.tar.gz", tarred((tarfile.TarInfo("/evil"), b"x")), "outside the folder"),
    ("a.tar.gz", tarred((link("a", tarfile.SYMTYPE, "/etc"), b""), (tarfile.TarInfo("a/evil"), b"x")), "link or"),
    ("a.tgz", tarred((link("a", tarfile.LNKTYPE, "/etc/passwd"), b"")), "link or a device"),
    ("a.tar", tarred((link("a", tarfile.CHRTYPE, ""), b"")), "link or a device"),
    ("a.tar.gz", tarred((tarfile.TarInfo("a"), b"x" * 1001)), "more than 1,000 bytes"),
    ("a.tar.gz", tarred((tarfile.TarInfo("a"), b"x"), (tarfile.TarInfo("a"), b"y")), "second of that name"),
    ("a.tar.gz", tarred((tarfile.TarInfo("a"), b"x" * 500))[:-9], "cannot be unpacked"),
]


@pytest.mark.parametrize(("name", "content", "complaint"), ARCHIVES, ids=map(str, range(len(ARCHIVES))))
def test_an_archive_that_is_not_what_it_should_be_leaves_nothing(
    name: str, content: bytes, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=complaint):
        unpack(tmp_path / name, tmp_path / "deep" / "out", 1000)
    assert {path.name for path in tmp_path.rglob("*")} == {name, "deep"}


def test_a_good_tar(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(tarred((tarfile.TarInfo("sift/base.fvecs"), b"x" * 1000)))
    assert unpack(tmp_path / "a.tar.gz", tmp_path / "out", 1000) == [Path("sift/base.fvecs")]
    assert (tmp_path / "out" / "sift" / "base.fvecs").read_bytes() == b"x" * 1000
