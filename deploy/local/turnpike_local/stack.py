"""The whole shop on one machine.

state folder locked ┬─▶ PostgreSQL ─▶ migrations ─┬─▶ five services, each until `/readyz` answers
                    ├─▶ NATS ─▶ streams ──────────┤
                    ├─▶ VPN node (or another) ────┤
                    └─▶ sandbox (or Telegram) ────┘

The sandbox's process also plays the payment providers.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

from shared.messaging.jetstream import BrokerError, create_streams
from shared.platform.migrate import MigrationError, migrate
from shared.platform.roles import role
from turnpike_cli.acting import login_name
from turnpike_local.broker import Broker
from turnpike_local.clock import kept_ahead_s, shown
from turnpike_local.node import NODE_API, Node
from turnpike_local.ports import LOOPBACK, free_port, is_free, kept_port
from turnpike_local.postgres import BROKEN, Postgres
from turnpike_local.processes import StartError, surroundings
from turnpike_local.providers import PROVIDERS, Provider, played, url_of
from turnpike_local.services import SERVICES, Program, Service
from turnpike_local.state import draw_secret, held, listed, read_secret
from turnpike_local.supervisor import Part, supervise
from turnpike_local.waiting import together

TELEGRAM_SERVICES = ("bot", "notifier")  # The services that call the Bot API.
TELEGRAM_API_URL = "TURNPIKE_TELEGRAM_API_URL"
OWNERS = "TURNPIKE_OWNERS"
SANDBOX_CLOCK = "TURNPIKE_SANDBOX_CLOCK"

_SANDBOX_BOT = 4_200_000_042  # The Telegram id of the sandbox's bot.
_BOT_SECRET_LENGTH = 35  # The length in a real token.

Progress = Callable[[str, float], None]


class Stoppable(Protocol):
    async def stop(self) -> None: ...


class Stack:
    """The parts of the shop. Entering starts all of them, leaving always stops all of them.

    `real_telegram` holds a bot's `TURNPIKE_BOT_TOKEN` and `TURNPIKE_TELEGRAM_*`. Without it, the
    sandbox takes the place of Telegram, on `sandbox_port`, and of the payment providers.
    bot-gateway listens for Telegram's webhook on `bot_port`. Port 0 is a free one. `settings` are
    further `TURNPIKE_*` variables for all services; a node and payment providers in them take the
    place of our own. `progress` is called with each finished step and its seconds. Entering raises
    `StartError`, and then nothing is left running.
    """

    postgres: Postgres
    broker: Broker
    node: Node
    telegram = "turnpike_local.sandbox"  # The package that plays Telegram and the providers.

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
        self._sandbox_port = (
            sandbox_port if sandbox_port and not self.real_telegram else free_port()
        )
        self.ports = {service.name: free_port() for service in SERVICES}
        self.ports["bot"] = bot_port or self.ports["bot"]
        self._telegram = self.real_telegram
        self.settings = dict(settings or {})
        self.own_node = NODE_API not in self.settings
        self.providers: tuple[Provider, ...] = () if self.real_telegram else played(self.settings)
        # A clock moves only where nobody outside keeps the real time.
        self.clock_moves = len(self.providers) == len(PROVIDERS)
        self.provider_ports: dict[str, int] = {}
        self._progress = progress
        self._infrastructure: list[Stoppable] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            exits.enter_context(held(self.state_dir))
            exits.push_async_callback(_stop, self._infrastructure)
            # The services stop first: they drain into PostgreSQL and NATS.
            exits.push_async_callback(_stop, self.services.values())
            await self._start()
            exits.enter_context(listed(self.state_dir, self._listing()))
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def supervise(self, report: Callable[[str], None]) -> None:
        """Restart every part that ends, and report it, until cancelled."""
        parts: list[Part] = [self.postgres, self.broker, *self.services.values()]
        if self.own_node:
            parts.append(self.node)
        if self.sandbox is not None:
            parts.append(self.sandbox)
        await asyncio.gather(*(supervise(part, report) for part in parts))

    @property
    def urls(self) -> dict[str, str]:
        """The HTTP address of each part.

        The keys are the owners' names, "nats" for its monitoring, "sandbox", and the providers that
        the sandbox plays: "yookassa", "cryptobot".
        """
        urls = {name: program.url for name, program in self.services.items()} | {
            "nats": self.broker.monitor_url
        }
        urls |= {name: url_of(port) for name, port in self.provider_ports.items()}
        return urls if self.sandbox is None else urls | {"sandbox": self.sandbox.url}

    def _listing(self) -> dict[str, Any]:
        """The running shop as `turnpike status` shows it: addresses, logs, DSNs, no password."""
        addresses: list[tuple[Part, str]] = [
            (self.services[service.name], self.services[service.name].url) for service in SERVICES
        ]
        addresses += [
            (self.postgres, f"{LOOPBACK}:{self.postgres.port}"),
            (self.broker, f"{LOOPBACK}:{self.broker.port}, monitored at {self.broker.monitor_url}"),
        ]
        if self.own_node:
            addresses.append((self.node, f"{self.node.xray.api} (its API)"))
        if self.sandbox is not None:
            addresses.append((self.sandbox, self.sandbox.url))
        named = [(part.child.name, address, part.child.log) for part, address in addresses]
        if self.sandbox is not None:
            log = self.sandbox.child.log
            named += [(name, url_of(port), log) for name, port in self.provider_ports.items()]
        return {
            "parts": [
                {"name": name, "address": address, "log": str(log.relative_to(self.state_dir))}
                for name, address, log in named
            ],
            "dsns": {
                service.title: self.postgres.address_for(role(service.name, "app"))
                for service in SERVICES
            },
            "passwords": str(self.postgres.passwords.relative_to(self.state_dir)),
        }

    def environment(self, service: str) -> dict[str, str]:
        """A service's environment: ours without `TURNPIKE_*`, and the variables that it needs."""
        environment = surroundings() | self.settings | {"PYTHONUNBUFFERED": "1"}
        environment |= {
            f"TURNPIKE_{service.upper()}_DSN": self.postgres.dsn(role(service, "app")),
            "TURNPIKE_NATS_URL": self.broker.url,
            "TURNPIKE_HTTP_HOST": LOOPBACK,
            "TURNPIKE_HTTP_PORT": str(self.ports[service]),
        }
        if self.clock_moves:
            environment[SANDBOX_CLOCK] = "true"
        if service == "bot":  # The user who starts the shop owns it.
            environment.setdefault(OWNERS, login_name())
        if service in TELEGRAM_SERVICES:
            environment |= self._telegram
        if service == "payments":
            for provider in self.providers:
                environment |= provider.settings(self.provider_ports[provider.name])
        if service == "vpn":
            environment |= {
                name: url for name, url in self._telegram.items() if name == TELEGRAM_API_URL
            }
            if self.own_node:
                environment |= self.node.environment
        if self.sandbox is not None:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = self.sandbox.url
        return environment

    async def _start(self) -> None:
        self._refuse_a_moved_clock()
        self._refuse_taken_ports()
        sandbox = [] if self._telegram else [self._start_sandbox()]
        node = [self._start_node()] if self.own_node else []
        await together(self._start_postgres(), self._start_broker(), *node, *sandbox)
        await together(*(self._start_service(service) for service in SERVICES))

    def _refuse_a_moved_clock(self) -> None:
        ahead_s = kept_ahead_s(self.state_dir)
        if ahead_s and not self.clock_moves:
            raise StartError(
                f"The clock of the shop in {self.state_dir} is {shown(ahead_s)} ahead, for the "
                "sandbox. A shop with a real bot or a real provider needs the real time: choose "
                "another folder in TURNPIKE_STATE_DIR, or `make clean` removes this one."
            )

    def _refuse_taken_ports(self) -> None:
        wanted = {"TURNPIKE_HTTP_PORT": self.ports["bot"]}
        if not self._telegram:
            wanted["TURNPIKE_SANDBOX_PORT"] = self._sandbox_port
        for variable, port in wanted.items():
            if not is_free(port):
                raise StartError(
                    f"Port {port} is taken by another program; {variable} chooses another one."
                )

    async def _start_postgres(self) -> None:
        with self._step("PostgreSQL"):
            self.postgres = await Postgres.start(self.state_dir)
            self._infrastructure.append(self.postgres)
            if ahead_s := kept_ahead_s(self.state_dir):
                await self.postgres.set_ahead(ahead_s)
        with self._step("migrations"):
            await together(*(self._migrate(service) for service in SERVICES))

    async def _migrate(self, service: Service) -> None:
        try:
            await migrate(self.postgres.dsn(role(service.name, "owner")), service.package)
        except (MigrationError, *BROKEN) as error:
            raise StartError(
                f"The tables of {service.title} could not be migrated: {error}."
            ) from error

    async def _start_broker(self) -> None:
        with self._step("NATS"):
            self.broker = await Broker.start(self.state_dir)
            self._infrastructure.append(self.broker)
        with self._step("streams"):
            try:
                await create_streams(self.broker.url)
            except BrokerError as error:
                raise StartError(f"The streams could not be created: {error}.") from error

    async def _start_node(self) -> None:
        with self._step("VPN node"):
            self.node = await Node.start(self.state_dir / "xray", page_port=self._sandbox_port)
            self._infrastructure.append(self.node)

    async def _start_sandbox(self) -> None:
        with self._step("sandbox"):
            folder = self.state_dir / "sandbox"
            token = _bot_token(folder)
            self.provider_ports = {
                provider.name: kept_port(folder / f"{provider.name}.port")
                for provider in self.providers
            }
            sandbox = Program(
                self.telegram,
                self._sandbox_arguments(folder),
                environment=surroundings() | {"TURNPIKE_BOT_TOKEN": token},
                port=self._sandbox_port,
                ready_path="/sandbox/health",
                log=self.state_dir / "logs" / "sandbox.log",
            )
            await sandbox.start()
            self._infrastructure.append(sandbox)
        self.sandbox = sandbox
        self._telegram = {
            "TURNPIKE_BOT_TOKEN": token,
            TELEGRAM_API_URL: sandbox.url,
            "TURNPIKE_TELEGRAM_WEBHOOK_URL": f"http://{LOOPBACK}:{self.ports['bot']}/telegram",
            "TURNPIKE_TELEGRAM_WEBHOOK_SECRET": token.partition(":")[2],
        }

    def _sandbox_arguments(self, folder: Path) -> tuple[str, ...]:
        payments = url_of(self.ports["payments"])
        options: dict[str, object] = {
            "port": self._sandbox_port,
            "state": folder,
            "payments": payments,
        }
        if self.clock_moves:
            options["clock-of"] = self.state_dir
        options |= {f"{name}-port": port for name, port in self.provider_ports.items()}
        return tuple(word for name, value in options.items() for word in (f"--{name}", str(value)))

    async def _start_service(self, service: Service) -> None:
        with self._step(service.title):
            program = Program(
                service.package,
                environment=self.environment(service.name),
                port=self.ports[service.name],
                ready_path="/readyz",
                log=self.state_dir / "logs" / f"{service.title}.log",
            )
            await program.start()
            self.services[service.name] = program

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        if self._progress is not None:
            self._progress(name, time.monotonic() - began)


async def _stop(parts: Collection[Stoppable]) -> None:
    await together(*(part.stop() for part in parts))


def _bot_token(folder: Path) -> str:
    """The token of the sandbox's bot.

    It stays the same as long as the state, because update ids are unique per bot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "secret"
    drawn = read_secret(secret) if secret.exists() else draw_secret(secret)
    return f"{_SANDBOX_BOT}:{drawn[:_BOT_SECRET_LENGTH]}"
