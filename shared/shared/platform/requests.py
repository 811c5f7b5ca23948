"""The body of an HTTP request at an ASGI endpoint, bounded."""

from typing import Any


async def read_body(receive: Any, most_bytes: int) -> bytes | None:
    """The whole body. None when it is larger. Without its end where the sender went away."""
    chunks, size, more = [], 0, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            break
        chunks.append(event.get("body", b""))
        size += len(chunks[-1])
        if size > most_bytes:
            return None
        more = event.get("more_body", False)
    return b"".join(chunks)
