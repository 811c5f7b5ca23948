"""Pages of stand-ins: their files, served as they are, and links that stay on this machine."""

from importlib.resources.abc import Traversable
from urllib.parse import urlsplit

from aiohttp import web

from .app import Handler

_MEDIA_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}


def static(folder: Traversable, file: str, **headers: str) -> Handler:
    """A handler that answers with this file of the folder."""
    media_type = _MEDIA_TYPES[file.rpartition(".")[2]]
    headers = {"Cache-Control": "no-cache", **headers}

    async def serve(_: web.Request) -> web.StreamResponse:
        text = folder.joinpath(file).read_text("utf-8")
        return web.Response(text=text, content_type=media_type, headers=headers)

    return serve


async def no_icon(_: web.Request) -> web.Response:
    return web.Response(status=204)


def local_link(url: str, chat_url: str) -> str:
    """Where a shop's link leads: one into Telegram, to the chat of this machine if it is known."""
    try:
        is_into_telegram = urlsplit(url).hostname == "t.me"
    except ValueError:  # A bracket without its pair.
        return url
    return chat_url if chat_url and is_into_telegram else url
