"""Photos: PNG and JPEG files, and their size in pixels."""

import secrets
import struct

from .records import Photo
from .rules import PHOTO_BYTES, bad_request


def new_photo(content: bytes) -> Photo:
    """The photo in `content`, with a new id. As in Telegram, equal bytes get new ids."""
    if len(content) > PHOTO_BYTES:
        raise bad_request("file is too big for a photo")
    width, height, media_type = _dimensions(content)
    return Photo(f"AgACAgIAAx{secrets.token_urlsafe(30)}", width, height, media_type, content)


def _dimensions(content: bytes) -> tuple[int, int, str]:
    if content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return width, height, "image/png"
    if content.startswith(b"\xff\xd8"):
        return (*_jpeg_size(content), "image/jpeg")
    raise bad_request("IMAGE_PROCESS_FAILED")


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Width and height from the first frame header (ITU T.81, B.2.2)."""
    position = 2
    while position + 9 <= len(content) and content[position] == 0xFF:
        marker, length = (
            content[position + 1],
            int.from_bytes(content[position + 2 : position + 4], "big"),
        )
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", content[position + 5 : position + 9])
            return width, height
        position += 2 + length
    raise bad_request("IMAGE_PROCESS_FAILED")
