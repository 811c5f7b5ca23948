"""The errors of YooKassa: a status, and an object with a code, a description and a parameter."""

from typing import Any
from uuid import uuid4

Json = dict[str, Any]


class Refused(Exception):  # noqa: N818 - an answer of the provider, not an error.
    """An answer that is not 200. `parameter` is the path of the field that was wrong."""

    def __init__(
        self,
        status: int,
        code: str,
        description: str,
        *,
        parameter: str | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(description)
        self.status = status
        self._code = code
        self._description = description
        self._parameter = parameter
        self._retry_after_ms = retry_after_ms

    def as_json(self) -> Json:
        optional = {"parameter": self._parameter, "retry_after": self._retry_after_ms}
        return {
            "type": "error",
            "id": str(uuid4()),
            "code": self._code,
            "description": self._description,
            **{name: value for name, value in optional.items() if value is not None},
        }


def invalid(description: str, parameter: str | None = None) -> Refused:
    return Refused(400, "invalid_request", description, parameter=parameter)


def wrong_credentials() -> Refused:
    return Refused(
        401, "invalid_credentials", "Authentication by given credentials failed", parameter=None
    )


def forbidden(description: str) -> Refused:
    return Refused(403, "forbidden", description)


def not_found(description: str, parameter: str | None = None) -> Refused:
    return Refused(404, "not_found", description, parameter=parameter)


def too_many_requests(retry_after_ms: int) -> Refused:
    return Refused(429, "too_many_requests", "Too many requests", retry_after_ms=retry_after_ms)


def internal(retry_after_ms: int) -> Refused:
    return Refused(
        500, "internal_server_error", "Internal server error", retry_after_ms=retry_after_ms
    )
