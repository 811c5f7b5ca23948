"""The stand-in for YooKassa as a separate process, until SIGTERM or Ctrl-C."""

import sys

from turnpike_local.standin.process import add_notices, parser, run

from .app import Yookassa
from .shop import Shop


def main() -> int:
    options = parser("turnpike_local.yookassa", __doc__, "payments, refunds and saved methods")
    options.add_argument("--shop-id", default=Shop().shop_id, help="default: %(default)s")
    options.add_argument("--secret-key", default=Shop().secret_key, help="default: %(default)s")
    add_notices(options)
    given = options.parse_args()
    shop = Shop(given.shop_id, given.secret_key)
    return run(lambda: [Yookassa(given.state, shop, port=given.port, notices_to=given.notices_to)])


if __name__ == "__main__":
    sys.exit(main())
