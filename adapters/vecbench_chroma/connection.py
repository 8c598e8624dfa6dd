"""A Chroma client that can be replaced while its collections stay in use: embedded, of our own server, or by URL.

Chroma puts a changed `ef_search` in force only when it loads an index anew, so changing it means to reopen everything.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from vecbench.capabilities import StoreInfo, deployment_of
from vecbench.errors import ConfigError, ConnectionFailed, StoreClosed, StoreTimeout, cause_of, redact
from vecbench.services.local import Service, start
from vecbench.store import hold_directory, import_client
from vecbench_chroma.engine import ChromaEngine
from vecbench_chroma.faults import mask, translate_error

__all__ = ["Connection", "Embedded", "Folder", "Process", "Server"]


class Folder:
    """A directory of Chroma's, with one holder at a time; `close` gives it back, and deletes one that was temporary."""

    def __init__(self, path: str | Path | None) -> None:
        self.temporary = path is None
        self.path = Path(tempfile.mkdtemp(prefix="vecbench-chroma-") if path is None else path).absolute()
        self._lock = hold_directory(self.path, store="chroma")

    def close(self) -> None:
        """Closing twice is fine."""
        if self.temporary:
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()

    @property
    def disk_bytes(self) -> int:
        """What lies in the directory."""
        return sum(f.stat().st_blocks * 512 for f in self.path.rglob("*") if f.is_file())


class Connection(ABC):
    """One client for all threads. Many use it side by side; to replace or close it, one waits until none does."""

    reopens: ClassVar[bool] = True
    shared: ClassVar[bool] = False

    def __init__(self, folder: Folder | None = None, secret: str | None = None) -> None:
        self.folder, self.secret = folder, secret
        self.sole = True  # nobody else keeps the engine open while we close it
        self.generation = 0
        self._client: Any = None
        self._users = 0
        self._replacing = False
        self._changed = threading.Condition()

    @property
    @abstractmethod
    def info(self) -> StoreInfo:
        """Who answers."""

    @abstractmethod
    def _start(self) -> Any:
        """A new client that is known to work."""

    @abstractmethod
    def _stop(self, client: Any) -> None:
        """End the client, and what was started for it."""

    @property
    def persistent(self) -> bool:
        """Whether the data outlive the store."""
        return self.folder is None or not self.folder.temporary

    def open(self) -> None:
        """Connect; the directory is given back where that fails."""
        try:
            self._client = self._start()
        except BaseException:
            if self.folder is not None:
                self.folder.close()
            raise

    @property
    def client(self) -> Any:
        """The client of now."""
        return self._client

    @contextmanager
    def use(self) -> Iterator[Any]:
        """The client, which stays open meanwhile. Not to be nested."""
        with self._changed:
            self._changed.wait_for(lambda: not self._replacing)
            if self._client is None:
                raise StoreClosed("this chroma store was closed; connect again")
            self._users += 1
        try:
            yield self._client
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def reopen(self) -> None:
        """Close the client and open another on the same data."""
        with self._alone():
            self._stop(self._client)
            self._client = None
            self.open()
            self.generation += 1

    def close(self) -> None:
        """Wait for calls that are under way, then end."""
        with self._alone():
            client, self._client = self._client, None
            try:
                if client is not None:
                    self._stop(client)
            finally:
                if self.folder is not None:
                    self.folder.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._replacing)
            self._replacing = True
            self._changed.wait_for(lambda: self._users == 0)
        try:
            yield
        finally:
            with self._changed:
                self._replacing = False
                self._changed.notify_all()


class Embedded(Connection):
    """The engine in this process, over a directory."""

    def __init__(self, path: str | Path | None) -> None:
        self._module: Any = import_client("chromadb", store="chroma", extra="chroma")
        self._home = Folder(path)
        super().__init__(self._home)

    def _start(self) -> Any:
        path = str(self._home.path)
        # Clients of one process share an engine by the path they were given, and keep it open for each other.
        engines = self._module.api.shared_system_client.SharedSystemClient._identifier_to_system
        self.sole = path not in engines
        try:
            return self._module.PersistentClient(
                path, self._module.config.Settings(_env_file=None, anonymized_telemetry=False)
            )
        except Exception as e:
            if self.sole:
                engines.pop(path, None)  # the client leaves a half-started engine there, for the next to trip over
            raise ConnectionFailed(f"chroma cannot open the directory {path}: {redact(str(e))}") from e

    def _stop(self, client: Any) -> None:
        client.close()

    @property
    def info(self) -> StoreInfo:
        """The engine is the client's own core."""
        installed = version("chromadb")
        return StoreInfo(
            name="chroma",
            label="chroma",
            deployment="embedded",
            engine="chroma",
            engine_version=installed,
            client="chromadb",
            client_version=installed,
            target="" if self._home.temporary else str(self._home.path),
        )


class Server(Connection):
    """A server by URL. It loads indexes when it likes, so a changed `ef_search` cannot be put in force."""

    reopens: ClassVar[bool] = False
    shared: ClassVar[bool] = True

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        tenant: str = "default_tenant",
        database: str = "default_database",
        timeout: float = 60.0,
        folder: Folder | None = None,
    ) -> None:
        super().__init__(folder, api_key)
        parts = urlsplit(url)
        try:
            port = parts.port or (443 if parts.scheme == "https" else 8000)
        except ValueError:
            port = 0
        if parts.scheme not in {"http", "https"} or not parts.hostname or not port:
            raise ConfigError(f"chroma needs a url like http://localhost:8000, got {redact(url)!r}")
        if parts.username is not None or parts.query or parts.fragment:
            raise ConfigError("chroma takes no credentials and no parameters in its url; pass api_key")
        if type(timeout) not in {int, float} or timeout <= 0:
            raise ConfigError(f"chroma: timeout is a number of seconds above 0, got {timeout!r}")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._target = f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"
        self._port, self._tenant, self._database, self._timeout = port, tenant, database, timeout
        self._sessions: list[Any] = []

    def _start(self) -> Any:
        import_client("chromadb", store="chroma", extra="chroma")
        doing = f"connecting to {self._target}"
        try:
            client = self._new_client()
            client.heartbeat()
        except Exception as e:
            self._close_sessions()
            ours = translate_error(e, doing, self.secret)
            if isinstance(ours, ConnectionFailed | StoreTimeout):
                raise ours from cause_of(e, [self.secret])
            raise ConnectionFailed(
                f"chroma: {doing} failed: what answers there is not Chroma, or has no database {self._database!r} of "
                f"tenant {self._tenant!r}: {mask(str(e), self.secret)}"
            ) from cause_of(e, [self.secret])
        return client

    def _new_client(self) -> Any:
        """Chroma's client with what it lacks: a timeout from the first request on, and connections that are closed."""
        module = import_client("chromadb.api.client", store="chroma", extra="chroma")
        timeout, sessions = self._timeout, self._sessions

        def get_user_identity(client: Any) -> Any:
            session = client._server._session  # the constructor's first request comes through here
            session.timeout = timeout
            sessions.append(session)
            return client._server.get_user_identity()

        def validate(client: Any, tenant: str, database: str) -> None:
            # The client's own way asks through a second connection, which has no timeout.
            client._server.get_tenant(name=tenant)
            client._server.get_database(name=database, tenant=tenant)

        timed = type(
            "TimedClient",
            (module.Client,),
            {"get_user_identity": get_user_identity, "_validate_tenant_database": validate},
        )
        settings = module.Settings(
            _env_file=None,
            anonymized_telemetry=False,
            chroma_api_impl="chromadb.api.fastapi.FastAPI",
            chroma_server_host=self._target,
            chroma_server_http_port=self._port,
            chroma_server_headers={"X-Chroma-Token": self.secret} if self.secret else {},
        )
        return timed(tenant=self._tenant, database=self._database, settings=settings)

    def _close_sessions(self) -> None:
        while self._sessions:
            self._sessions.pop().close()

    def _stop(self, client: Any) -> None:
        client.close()
        self._close_sessions()

    @property
    def info(self) -> StoreInfo:
        """Every release of the server says 1.0.0, so its version is not known."""
        return StoreInfo(
            name="chroma",
            label="chroma",
            deployment=deployment_of(self._target),
            engine="chroma",
            engine_version="not told by the server",
            client="chromadb (HTTP)",
            client_version=version("chromadb"),
            target=self._target,
        )


class Process(Server):
    """A server of the installed package, started for this store and ended with it; reopening restarts it."""

    reopens: ClassVar[bool] = True
    shared: ClassVar[bool] = False

    def __init__(self, path: str | Path | None, *, timeout: float = 60.0) -> None:
        self._home = Folder(path)
        self._service: Service | None = None
        super().__init__("http://127.0.0.1:8000", timeout=timeout, folder=self._home)  # the port is known once it runs

    def _start(self) -> Any:
        try:
            self._service = start(ChromaEngine(), self._home.path)
            self._target = self._service.url
            self._port = int(self._target.rsplit(":", 1)[1])
            return super()._start()
        except BaseException:
            self._end()
            raise

    def _stop(self, client: Any) -> None:
        try:
            super()._stop(client)
        finally:
            self._end()

    def _end(self) -> None:
        if self._service is not None:
            self._service.stop()
            self._service = None

    @property
    def info(self) -> StoreInfo:
        """The server is the installed package's."""
        installed = version("chromadb")
        return StoreInfo(
            name="chroma",
            label="chroma",
            deployment="local-process",
            engine="chroma",
            engine_version=installed,
            client="chromadb (HTTP)",
            client_version=installed,
            target=self._target,
            pids=() if self._service is None else self._service.pids,
        )
