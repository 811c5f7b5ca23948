"""A real Xray on this machine: the node that issues keys, and a client that tests a key."""

import asyncio
import json
import secrets
import sys
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import aiohttp_socks
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from turnpike_local.environment import ROOT
from turnpike_local.ports import LOOPBACK, accepts, free_port, is_free
from turnpike_local.processes import Child, StartError

INBOUND = "people"

_FLOW = "xtls-rprx-vision"
_SERVER_NAME = "decoy.test"  # No DNS will ever resolve this name (RFC 6761).
_STOP_GRACE_S = 3.0

# The wheel has no program, only a module that runs the core until a signal. With `-I`, a file of
# ours named xray.py is not imported in its place.
RUN = (sys.executable, "-I", "-c", "import sys, xray; xray.startFromJSON(sys.stdin.read())")
# The program of the node's image, which also cuts what an ended key left open. It stands beside the
# sources only.
_PROGRAM = ROOT / "deploy/docker/node.py"
RUN_NODE = (sys.executable, "-I", str(_PROGRAM), "/dev/stdin") if _PROGRAM.is_file() else RUN


class NotFetchedError(Exception):
    """No page came through the key: the node rejects the key or blocks the page."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The settings that a node keeps over a restart.

    Links that people have contain its port and its REALITY keys.
    """

    port: int
    api_port: int
    private_key: str
    public_key: str
    short_id: str
    certificate: str
    certificate_key: str


class XrayNode:
    """A VLESS + REALITY + Vision node on loopback. Its users can reach one page, nothing else."""

    inbound = INBOUND

    def __init__(self, child: Child, identity: Identity) -> None:
        self.child = child
        self._identity = identity

    @classmethod
    async def start(cls, state_dir: Path, *, page_port: int) -> Self:
        """Start the node without users. Its identity is kept in `state_dir`.

        `page_port` is the only loopback port that a key can reach. Raises `StartError`.
        """
        identity = _kept_identity(state_dir / "node.json")
        for port in (identity.port, identity.api_port):
            if not is_free(port):
                raise StartError(
                    f"Port {port} of this state's Xray node is taken by another program."
                )

        async def ready() -> bool:
            return await accepts(identity.api_port) and await accepts(identity.port)

        config = json.dumps(node_config(identity, decoy_port=free_port(), page_port=page_port))
        log = state_dir / "node.log"
        child = await Child.start("xray", RUN_NODE, stdin=config.encode(), log=log, ready=ready)
        return cls(child, identity)

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def alive(self) -> bool:
        return self.child.alive

    @property
    def api(self) -> str:
        """host:port of the gRPC API. It has no password, so it is on loopback."""
        return f"{LOOPBACK}:{self._identity.api_port}"

    @property
    def link_template(self) -> str:
        """The link of a person's key, with `{key}` in place of the key."""
        return link_template(self._identity)

    async def stop(self) -> None:
        """Stop the node. It forgets its users."""
        await self.child.stop(_STOP_GRACE_S)

    def kill(self) -> None:
        """SIGKILL, like a crash."""
        self.child.kill()


async def fetch_through(link: str, url: str, timeout_s: float = 10.0) -> str:
    """The page at `url`, fetched through a person's link by a separate Xray client.

    Raises `NotFetchedError` when no page comes within `timeout_s`, `StartError` when the client
    does not start.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="turnpike-xray-") as folder:
        config = json.dumps(client_config(link, port)).encode()
        log = Path(folder) / "client.log"
        child = await Child.start(
            "xray client", RUN, stdin=config, log=log, ready=lambda: accepts(port)
        )
        try:
            return await _fetch(f"socks5://{LOOPBACK}:{port}", url, timeout_s)
        except (aiohttp.ClientError, aiohttp_socks.ProxyError, OSError) as error:
            # OSError includes TimeoutError.
            raise NotFetchedError(
                f"{url} did not come through the key: {error!r}\n{child.last_lines()}"
            ) from error
        finally:
            await child.stop(_STOP_GRACE_S)


def node_config(identity: Identity, *, decoy_port: int, page_port: int) -> Mapping[str, Any]:
    """Xray's configuration of the node.

    REALITY shows a client without a key the handshake of a real TLS 1.3 server. Here that server is
    a second inbound, so that nothing outside this machine is needed.
    """
    return {
        "log": {"loglevel": "warning", "access": "none"},
        "stats": {},
        "policy": {"levels": {"0": {"statsUserUplink": True, "statsUserDownlink": True}}},
        "api": {
            "tag": "api",
            "listen": f"{LOOPBACK}:{identity.api_port}",
            "services": ["HandlerService", "StatsService"],
        },
        "inbounds": [
            {
                "tag": "decoy",
                "listen": LOOPBACK,
                "port": decoy_port,
                "protocol": "http",
                "streamSettings": {
                    "security": "tls",
                    "tlsSettings": {
                        "alpn": ["h2", "http/1.1"],
                        "minVersion": "1.3",
                        "certificates": [
                            {
                                "certificate": identity.certificate.splitlines(),
                                "key": identity.certificate_key.splitlines(),
                            }
                        ],
                    },
                },
            },
            {
                "tag": INBOUND,
                "listen": LOOPBACK,
                "port": identity.port,
                "protocol": "vless",
                "settings": {"clients": [], "decryption": "none"},
                "streamSettings": {
                    "network": "tcp",
                    "security": "reality",
                    "realitySettings": {
                        "target": f"{LOOPBACK}:{decoy_port}",
                        "serverNames": [_SERVER_NAME],
                        "privateKey": identity.private_key,
                        "shortIds": [identity.short_id],
                    },
                },
            },
        ],
        "outbounds": [
            {
                "protocol": "freedom",
                "settings": {
                    "finalRules": [
                        {
                            "action": "allow",
                            "network": "tcp",
                            "ip": [f"{LOOPBACK}/32"],
                            "port": str(page_port),
                        },
                        {"action": "block"},
                    ]
                },
            }
        ],
    }


def client_config(link: str, socks_port: int) -> Mapping[str, Any]:
    """Xray's configuration of a client, as an app derives it from a `vless://` REALITY link."""
    parts = urlsplit(link)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    user = {"id": parts.username, "encryption": query["encryption"], "flow": query["flow"]}
    return {
        "log": {"loglevel": "warning", "access": "none"},
        "inbounds": [{"listen": LOOPBACK, "port": socks_port, "protocol": "socks"}],
        "outbounds": [
            {
                "protocol": "vless",
                "settings": {
                    "vnext": [{"address": parts.hostname, "port": parts.port, "users": [user]}]
                },
                "streamSettings": {
                    "network": query["type"],
                    "security": query["security"],
                    "realitySettings": {
                        "serverName": query["sni"],
                        "publicKey": query["pbk"],
                        "shortId": query["sid"],
                        "fingerprint": query["fp"],
                    },
                },
            }
        ],
    }


def link_template(identity: Identity) -> str:
    """The node's link in the form that VPN apps import, with `{key}` in place of the key."""
    query = urlencode(
        {
            "type": "tcp",
            "encryption": "none",
            "flow": _FLOW,
            "security": "reality",
            "sni": _SERVER_NAME,
            "fp": "chrome",
            "pbk": identity.public_key,
            "sid": identity.short_id,
        }
    )
    return f"vless://{{key}}@{LOOPBACK}:{identity.port}?{query}#Turnpike"


def new_identity() -> Identity:
    """Free ports and fresh keys."""
    reality_key = X25519PrivateKey.generate()
    certificate, certificate_key = _self_signed(_SERVER_NAME)
    return Identity(
        port=free_port(),
        api_port=free_port(),
        private_key=_base64(reality_key.private_bytes_raw()),
        public_key=_base64(reality_key.public_key().public_bytes_raw()),
        short_id=secrets.token_hex(8),
        certificate=certificate,
        certificate_key=certificate_key,
    )


def _kept_identity(path: Path) -> Identity:
    """The identity in the file, which is created first when missing, with mode 600."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(new_identity()), indent=2))
        draft.replace(path)  # Atomic.
    try:
        return Identity(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise StartError(f"{path} does not hold the settings of an Xray node: {error}.") from error


async def _fetch(proxy: str, url: str, timeout_s: float) -> str:
    connector = aiohttp_socks.ProxyConnector.from_url(proxy)
    async with (
        asyncio.timeout(timeout_s),
        aiohttp.ClientSession(connector=connector) as session,
        session.get(url, raise_for_status=True) as response,
    ):
        return await response.text()


def _self_signed(name: str) -> tuple[str, str]:
    """A certificate and its key in PEM. Clients of REALITY do not verify it."""
    key = generate_ec_key(SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM).decode(), pem.decode()


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
