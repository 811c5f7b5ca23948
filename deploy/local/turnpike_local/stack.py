"""The whole shop on one machine.

state folder held ┬─▶ PostgreSQL ─▶ migrations ─┬─▶ five services, each until its `/readyz` answers
                  ├─▶ NATS ─▶ streams ──────────┤
                  ├─▶ VPN node ─────────────────┤
                  └─▶ sandbox (or Telegram) ────┘
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Protocol, Self

from shared.migrate import MigrationError, migrate
from shared.outbox import BrokerError, make_streams
from shared.roles import role
from turnpike_local.broker import Broker
from turnpike_local.keeper import Part, keep
from turnpike_local.ports import LOOPBACK, free_port, is_free
from turnpike_local.postgres import BROKEN, Postgres
from turnpike_local.processes import Child, StartError, surroundings
from turnpike_local.services import SERVICES, Program, Service
from turnpike_local.state import draw_secret, held, read_secret
from turnpike_local.waiting import together
from turnpike_local.xray import XrayNode

VOICES = ("bot", "notifier")  # The services that speak to Telegram.

_SANDBOX_BOT = 4_200_000_042  # Its Telegram id.
_BOT_SECRET_LENGTH = 35  # As in a real token.

Progress = Callable[[str, float], None]


class Stoppable(Protocol):
    async def stop(self) -> None: ...


class Stack:
    """Everything is started on entering and stopped on leaving, whatever happened between.

    `real_telegram` holds a bot's `TURNPIKE_BOT_TOKEN` and `TURNPIKE_TELEGRAM_*`; without it the sandbox stands in for
    Telegram, on `sandbox_port`. `bot_port` is where bot-gateway listens for Telegram's webhook. Port 0 is a free one.
    `settings` are further `TURNPIKE_*` variables for all services; `progress` hears of each finished step and its
    seconds. Entering raises `StartError`; then nothing is left running.
    """

    postgres: Postgres
    broker: Broker
    node: "Node"
    telegram = "turnpike_local.sandbox"  # The package that stands in for Telegram.

    def __init__(
        self,
        state_dir: Path,
        *,
        sandbox_port: int = 0,
        bot_port: int = 0,
        real_telegram: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.state_dir = state_dir.resolve()
        self.real_telegram = dict(real_telegram or {})
        self.sandbox: Program | None = None
        self.services: dict[str, Program] = {}
        self._sandbox_port = sandbox_port if sandbox_port and not self.real_telegram else free_port()
        self.ports = {service.name: free_port() for service in SERVICES}
        self.ports["bot"] = bot_port or self.ports["bot"]
        self._telegram = self.real_telegram
        self._settings = dict(settings or {})
        self._progress = progress
        self._ground: list[Stoppable] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            exits.enter_context(held(self.state_dir))
            exits.push_async_callback(_stop, self._ground)
            exits.push_async_callback(_stop, self.services.values())  # First: they drain into what they stand on.
            await self._start()
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def keep(self, say: Callable[[str], None]) -> None:
        """Start again whatever ends by itself, and `say` so, until cancelled."""
        parts: list[Part] = [self.postgres, self.broker, self.node, *self.services.values()]
        if self.sandbox is not None:
            parts.append(self.sandbox)
        await asyncio.gather(*(keep(part, say) for part in parts))

    @property
    def urls(self) -> dict[str, str]:
        """Where each part answers HTTP: the services by their short names, "nats" (its monitoring), "sandbox"."""
        urls = {name: program.url for name, program in self.services.items()} | {"nats": self.broker.monitor_url}
        return urls if self.sandbox is None else urls | {"sandbox": self.sandbox.url}

    def environment(self, service: str) -> dict[str, str]:
        """What a service is given: our environment without `TURNPIKE_*`, and of ours what this one needs."""
        environment = surroundings() | self._settings | {"PYTHONUNBUFFERED": "1"}
        environment |= {
            f"TURNPIKE_{service.upper()}_DSN": self.postgres.dsn(role(service, "app")),
            "TURNPIKE_NATS_URL": self.broker.url,
            "TURNPIKE_HTTP_HOST": LOOPBACK,
            "TURNPIKE_HTTP_PORT": str(self.ports[service]),
        }
        if service in VOICES:
            environment |= self._telegram
        if service == "vpn":
            environment |= self.node.environment
        if self.sandbox is not None:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = self.sandbox.url
        return environment

    async def _start(self) -> None:
        self._refuse_taken_ports()
        voice = [] if self._telegram else [self._start_sandbox()]
        await together(self._start_postgres(), self._start_broker(), self._start_node(), *voice)
        await together(*(self._start_service(service) for service in SERVICES))

    def _refuse_taken_ports(self) -> None:
        wanted = {"TURNPIKE_HTTP_PORT": self.ports["bot"]}
        if not self._telegram:
            wanted["TURNPIKE_SANDBOX_PORT"] = self._sandbox_port
        for variable, port in wanted.items():
            if not is_free(port):
                raise StartError(f"Port {port} is taken by another program; {variable} chooses another one.")

    async def _start_postgres(self) -> None:
        with self._step("PostgreSQL"):
            self.postgres = await Postgres.start(self.state_dir)
            self._ground.append(self.postgres)
        with self._step("migrations"):
            await together(*(self._migrate(service) for service in SERVICES))

    async def _migrate(self, service: Service) -> None:
        try:
            await migrate(self.postgres.dsn(role(service.name, "owner")), service.package)
        except (MigrationError, *BROKEN) as error:
            raise StartError(f"The tables of {service.package} could not be brought up to date: {error}.") from error

    async def _start_broker(self) -> None:
        with self._step("NATS"):
            self.broker = await Broker.start(self.state_dir)
            self._ground.append(self.broker)
        with self._step("streams"):
            try:
                await make_streams(self.broker.url)
            except BrokerError as error:
                raise StartError(f"The streams could not be made: {error}.") from error

    async def _start_node(self) -> None:
        with self._step("VPN node"):
            self.node = await Node.start(self.state_dir / "xray", page_port=self._sandbox_port)
            self._ground.append(self.node)

    async def _start_sandbox(self) -> None:
        with self._step("sandbox"):
            folder = self.state_dir / "sandbox"
            token = _bot_token(folder)
            sandbox = Program(
                self.telegram,
                ("--port", str(self._sandbox_port), "--state", str(folder)),
                environment=surroundings() | {"TURNPIKE_BOT_TOKEN": token},
                port=self._sandbox_port,
                ready_path="/sandbox/health",
                log=self.state_dir / "logs" / "sandbox.log",
            )
            await sandbox.start()
            self._ground.append(sandbox)
        self.sandbox = sandbox
        self._telegram = {
            "TURNPIKE_BOT_TOKEN": token,
            "TURNPIKE_TELEGRAM_API_URL": sandbox.url,
            "TURNPIKE_TELEGRAM_WEBHOOK_URL": f"http://{LOOPBACK}:{self.ports['bot']}/telegram",
            "TURNPIKE_TELEGRAM_WEBHOOK_SECRET": token.partition(":")[2],
        }

    async def _start_service(self, service: Service) -> None:
        with self._step(service.package):
            program = Program(
                service.package,
                environment=self.environment(service.name),
                port=self.ports[service.name],
                ready_path="/readyz",
                log=self.state_dir / "logs" / f"{service.package}.log",
            )
            await program.start()
            self.services[service.name] = program

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        if self._progress is not None:
            self._progress(name, time.monotonic() - began)


class Node:
    """The VPN node: its identity outlives it, so it can be started again."""

    def __init__(self, xray: XrayNode, folder: Path, page_port: int) -> None:
        self.xray = xray
        self._folder = folder
        self._page_port = page_port

    @classmethod
    async def start(cls, folder: Path, *, page_port: int) -> Self:
        """Start the node of this folder. Raises `StartError`."""
        return cls(await XrayNode.start(folder, page_port=page_port), folder, page_port)

    @property
    def child(self) -> Child:
        return self.xray.child

    @property
    def environment(self) -> dict[str, str]:
        """How vpn-provisioner reaches the node, and the links that people get."""
        return {
            "TURNPIKE_VPN_XRAY_API": self.xray.api,
            "TURNPIKE_VPN_XRAY_INBOUND": self.xray.inbound,
            "TURNPIKE_VPN_XRAY_LINK": self.xray.link_template,
        }

    async def restart(self) -> None:
        """End it and start it without its users: Xray forgets them. Raises `StartError`."""
        await self.stop()
        self.xray = await XrayNode.start(self._folder, page_port=self._page_port)

    async def stop(self) -> None:
        await self.xray.stop()

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self.xray.kill()


async def _stop(parts: Collection[Stoppable]) -> None:
    await together(*(part.stop() for part in parts))


def _bot_token(folder: Path) -> str:
    """The sandbox bot's token: the same for the life of the state, as updates are unique per bot."""
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "secret"
    drawn = read_secret(secret) if secret.exists() else draw_secret(secret)
    return f"{_SANDBOX_BOT}:{drawn[:_BOT_SECRET_LENGTH]}"
