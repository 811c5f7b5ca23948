"""Ends with 0 if the program of this image works: healthy.py [NODE.JSON].

A service answers /livez; a node with that file accepts connections on every port of its inbounds.
Kubernetes does not read an image's health check; Docker and Compose do.
"""

import json
import os
import socket
import sys
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

TIMEOUT_S = 4


def check_service() -> None:
    """Raise OSError unless the service is alive."""
    host = os.environ.get("TURNPIKE_HTTP_HOST", "127.0.0.1")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound here.
    port = os.environ.get("TURNPIKE_HTTP_PORT", "8080")
    url = f"http://[{host}]:{port}/livez" if ":" in host else f"http://{host}:{port}/livez"
    build_opener(ProxyHandler({})).open(url, timeout=TIMEOUT_S).close()


def check_node(file: Path) -> None:
    """Raise OSError unless the node accepts connections."""
    for inbound in json.loads(file.read_text())["inbounds"]:
        socket.create_connection(("127.0.0.1", inbound["port"]), timeout=TIMEOUT_S).close()


if __name__ == "__main__":
    try:
        check_node(Path(sys.argv[1])) if sys.argv[1:] else check_service()
    except OSError as error:
        sys.exit(f"not healthy: {error}")
