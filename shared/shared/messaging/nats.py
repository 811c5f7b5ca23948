"""The one import of NATS: the client of nats-py and the broker of FastStream.

Both give up after errors that pass, such as a password that is put back. Here they reconnect.
`TimeoutError` and `Error` of nats-py are renamed, because Python has others of these names.
"""

from shared.platform.imports import import_without

import_without("nats", absent=("aiohttp",))

# ruff: noqa: E402 - nats-py has to be imported without aiohttp first.
from typing import Any

from faststream.exceptions import SkipMessage
from faststream.nats import NatsBroker
from faststream.nats.annotations import NatsMessage
from nats import connect
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

__all__ = [
    "Client",
    "LastingBroker",
    "Msg",
    "NatsError",
    "NatsMessage",
    "NatsTimeoutError",
    "NoRespondersError",
    "SkipMessage",
    "connect",
]

PERMISSIONS = "permissions violation"


class LastingClient(Client):
    """Reconnects after every error that ends a connection; nats-py closes for good after most."""

    async def _process_err(self, err_msg: str) -> None:
        error = NatsError(f"nats: {err_msg}")
        await self._error_cb(error)
        if PERMISSIONS not in err_msg:
            await self._process_op_err(error)


class LastingBroker(NatsBroker):
    """Its client lasts.

    FastStream's own error callback raises after nine errors, which ends the task that reconnects.
    """

    def _log_connection_broken(self, error_cb: Any = None) -> Any:
        return error_cb

    async def _connect(self) -> Client:
        client = LastingClient()
        await client.connect(**self._connection_kwargs)
        self.config.connect(client)
        return client
