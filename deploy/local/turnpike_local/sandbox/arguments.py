"""The parameters of one Bot API call, as query, form, multipart or JSON."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from .rules import bad_request

_INTEGER = re.compile(r"-?[0-9]{1,18}")  # Always fits into 64 bits.


@dataclass(frozen=True)
class Upload:
    """A file in the call."""

    content: bytes
    media_type: str


@dataclass(frozen=True)
class Arguments:
    """Values as Telegram reads them: any may be a string, a nested object may be JSON in one."""

    values: Mapping[str, object] = field(default_factory=dict)
    uploads: Mapping[str, Upload] = field(default_factory=dict)

    def text(self, name: str, *, required: bool = False) -> str:
        value = self.values.get(name)
        text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
        if required and not text:
            raise bad_request(f'parameter "{name}" is required')
        return text

    def integer(self, name: str, default: int = 0) -> int:
        """A number. As in Telegram, any other value counts as absent."""
        text = self.text(name).strip()
        return int(text) if _INTEGER.fullmatch(text) else default

    def flag(self, name: str) -> bool:
        return self.text(name).strip().lower() in ("true", "yes", "1")

    def json(self, name: str) -> object:
        """A nested object or list, None when absent."""
        value = self.values.get(name)
        if not isinstance(value, str):
            return value
        if not value.strip():
            return None
        try:
            parsed: object = json.loads(value)
        except ValueError:
            raise bad_request(f"can't parse {name} JSON object") from None
        return parsed

    def upload(self, reference: str) -> Upload | None:
        """The file of this field, or of the field in `attach://<field>`."""
        return self.uploads.get(reference.removeprefix("attach://"))

    def names(self) -> set[str]:
        """The given parameters, without files that another parameter refers to."""
        attached = {
            name
            for name in self.uploads
            if any(f"attach://{name}" in str(v) for v in self.values.values())
        }
        return set(self.values) | (set(self.uploads) - attached)


async def read_arguments(request: web.Request) -> Arguments:
    """The query and the body together. The body takes precedence."""
    values: dict[str, object] = dict(request.query)
    uploads: dict[str, Upload] = {}
    if request.content_type == "application/json":
        values.update(await _json_body(request))
    elif request.body_exists:
        for name, value in (await request.post()).items():
            if isinstance(value, web.FileField):
                uploads[name] = Upload(value.file.read(), value.content_type)
            else:
                values[name] = value.decode() if isinstance(value, bytes | bytearray) else value
    return Arguments(values, uploads)


async def _json_body(request: web.Request) -> dict[str, object]:
    text = await request.text()
    try:
        body = json.loads(text) if text.strip() else {}
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise bad_request("can't parse JSON object")
    return body
