"""Refusals in Crypto Pay's form: `{"ok": false, "error": {"code": …, "name": …}}`."""


class Refused(Exception):  # noqa: N818 - A refusal is an answer, not an error.
    """The provider refuses a call. `code` is the HTTP status too."""

    def __init__(self, code: int, name: str) -> None:
        super().__init__(f"[{code}] {name}")
        self.code = code
        self.name = name


APP_ERROR = Refused(500, "APP_ERROR")


def invalid(parameter: str) -> Refused:
    """As EXPIRES_IN_INVALID, the one name of this kind that clients have seen."""
    return Refused(400, f"{parameter.upper()}_INVALID")


def required(parameter: str) -> Refused:
    return Refused(400, f"{parameter.upper()}_REQUIRED")
