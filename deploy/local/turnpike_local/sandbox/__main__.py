"""The sandbox as a separate process, until SIGTERM or Ctrl-C.

With their ports, the stand-ins of payment providers run in it too: a process of its own would cost
each of them as much memory as the sandbox.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from turnpike_local.clock import ShopClock
from turnpike_local.cryptopay import CryptoPay
from turnpike_local.providers import (
    CRYPTOBOT_TOKEN,
    PROVIDER_TOKEN,
    YOOKASSA_SECRET_KEY,
    YOOKASSA_SHOP_ID,
    Name,
    url_of,
    webhook_of,
)
from turnpike_local.standin import StandIn
from turnpike_local.standin.process import parser, run
from turnpike_local.yookassa import Shop, Yookassa

from .app import Sandbox

Provider = Yookassa | CryptoPay
Make = Callable[[Path, int, str, str, ShopClock], Provider]

SHOP = Shop(YOOKASSA_SHOP_ID, YOOKASSA_SECRET_KEY)
PROVIDERS: dict[Name, Make] = {
    "yookassa": lambda folder, port, to, chat, clock: Yookassa(
        folder, SHOP, port=port, notices_to=to, chat_url=chat, clock=clock
    ),
    "cryptobot": lambda folder, port, to, chat, clock: CryptoPay(
        folder, CRYPTOBOT_TOKEN, port=port, notices_to=to, chat_url=chat, clock=clock
    ),
}


def main(sandbox: type[Sandbox] = Sandbox) -> int:
    options = parser("turnpike_local.sandbox", __doc__, "people, chats and payments")
    options.add_argument(
        "--token", default=os.environ.get("TURNPIKE_BOT_TOKEN"), help="default: TURNPIKE_BOT_TOKEN"
    )
    for name in PROVIDERS:
        options.add_argument(f"--{name}-port", type=int, help=f"run the stand-in of {name} too")
    options.add_argument("--payments", default="", help="the address of payments, for notices")
    options.add_argument(
        "--clock-of",
        type=Path,
        metavar="STATE",
        help="the state folder of a shop: its clock moves, and is the clock of the stand-ins",
    )
    given = options.parse_args()
    if not given.token:
        options.error("a token is needed: --token or TURNPIKE_BOT_TOKEN")

    def providers(clock: ShopClock) -> Iterator[Provider]:
        chat_url = f"{url_of(given.port)}/" if given.port else ""
        for name, make in PROVIDERS.items():
            port = vars(given)[f"{name}_port"]
            if port is not None:
                notices_to = webhook_of(name, given.payments) if given.payments else ""
                yield make(given.state, port, notices_to, chat_url, clock)

    def parts() -> list[StandIn]:
        """The sandbox is the last: once it is ready, so are the others."""
        clock = ShopClock(given.clock_of)
        played = list(providers(clock))
        shop = next((one for one in played if isinstance(one, Yookassa)), None)
        chat = sandbox(
            given.state,
            given.token,
            port=given.port,
            clock=clock,
            providers=played,
            cards={PROVIDER_TOKEN: shop} if shop else None,
        )
        for provider in played:
            provider.tell = chat.take
        return [*played, chat]

    return run(parts)


if __name__ == "__main__":
    sys.exit(main())
