"""The stand-in for Crypto Pay as a separate process, until SIGTERM or Ctrl-C."""

import sys

from turnpike_local.standin.process import add_notices, parser, run

from .app import CryptoPay


def main() -> int:
    options = parser("turnpike_local.cryptopay", __doc__, "invoices and payments")
    options.add_argument("--token", required=True, help="of the app: a number, a colon, a secret")
    add_notices(options)
    given = options.parse_args()
    return run(
        lambda: [CryptoPay(given.state, given.token, port=given.port, notices_to=given.notices_to)]
    )


if __name__ == "__main__":
    sys.exit(main())
