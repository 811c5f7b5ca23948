"""A package index on loopback that a test can stop, and packages for it."""

import hashlib
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path
from typing import Literal, Self

from turnpike_local.ports import LOOPBACK

Answer = Literal["files", "refusal", "silence"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that a test killed is no error."""


class PackageIndex:
    """Serves the wheels of a folder, by the pages that pip and uv read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked = threading.Event()
        """Set by a request for a wheel."""
        self.answer: Answer = "files"
        self._speaks = threading.Event()
        self._speaks.set()
        self._server = _Server((LOOPBACK, 0), self._handler())

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gives("files")
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.server_port}/simple"

    def gives(self, answer: Answer) -> None:
        """Give this from now on. Requests that met silence are answered when it ends."""
        self.answer = answer
        if answer == "silence":
            self._speaks.clear()
        else:
            self._speaks.set()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Only wheels meet silence: a command that asks for one is in the middle."""
                _, kind, name, *_ = self.path.split("/")
                if kind == "files":
                    index.asked.set()
                    index._speaks.wait()
                wheel = index.folder / name
                body = index._page(name) if kind == "simple" else wheel.read_bytes()
                self.send_response(403 if index.answer == "refusal" else 200)
                self.send_header("Content-Type", "text/html" if kind == "simple" else "binary")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _page(self, name: str) -> bytes:
        links = (
            f'<a href="/files/{wheel.name}#sha256={sha256(wheel)}">{wheel.name}</a>'
            for wheel in self.folder.glob(f"{name}-*.whl")
        )
        return f"<!doctype html><html><body>{''.join(links)}</body></html>".encode()


def sha256(wheel: Path) -> str:
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def write_tiny(folder: Path) -> str:
    """A package with a program that prints "new". Returns its line of a lock."""
    module = 'def main() -> None:\n    print("new")\n'
    return _write_wheel(
        folder,
        "tiny",
        "1",
        {"tiny.py": module, "tiny-1.dist-info/entry_points.txt": _SCRIPT},
    )


def write_uv(folder: Path) -> str:
    """The uv that is installed here, as a package. Returns its line of a lock."""
    uv = distribution("uv")
    program = next(file for file in uv.files or () if file.parts[-2:] == ("bin", "uv"))
    name = f"uv-{uv.version}.data/scripts/uv"
    return _write_wheel(
        folder, "uv", uv.version, {name: Path(str(program.locate())).resolve().read_bytes()}
    )


_SCRIPT = "[console_scripts]\ntiny = tiny:main\n"


def _write_wheel(folder: Path, name: str, version: str, files: dict[str, str | bytes]) -> str:
    info = f"{name}-{version}.dist-info"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    described = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    names = [*files, *described, f"{info}/RECORD"]
    record = {f"{info}/RECORD": "".join(f"{entry},,\n" for entry in names)}
    with zipfile.ZipFile(wheel, "w") as archive:
        for entry, content in (files | described | record).items():
            about = zipfile.ZipInfo(entry)
            about.external_attr = 0o100755 << 16  # pip makes only such files programs.
            archive.writestr(about, content)
    return f"{name}=={version} --hash=sha256:{sha256(wheel)}\n"
