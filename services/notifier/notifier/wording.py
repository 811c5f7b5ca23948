"""A message in a person's language: the words, and the one button that leads on."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, assert_never

from notifier.messages import Kind
from shared.money import Money
from shared.questions import Key
from shared.texts import Texts

# What bot-gateway understands as "show me my access".
MY_ACCESS = "go:access"

TEXTS = Texts("notifier")


@dataclass(frozen=True)
class Button:
    text: str
    callback_data: str


@dataclass(frozen=True)
class Words:
    """Text in Telegram's HTML."""

    text: str
    button: Button | None = None


def words(kind: Kind, details: Mapping[str, Any], language: str, key: Key | None = None) -> Words:
    """The message of this kind. `key` is needed for `access_ready` alone."""
    name, arguments = _message(kind, details, key)
    button = Button(TEXTS(language, "button-my-access"), MY_ACCESS) if kind == "access_ready" else None
    return Words(TEXTS(language, name, **arguments), button)


def _message(kind: Kind, details: Mapping[str, Any], key: Key | None) -> tuple[str, dict[str, Any]]:
    """Which message of the catalogue, and what it is given."""
    match kind:
        case "paid_issuing":
            return "paid-issuing", {"price": Money(details["price_minor"])}
        case "access_ready":
            assert key is not None, "the key is asked for before the words are made"
            given = {"plan": details["plan"], "devices": details["devices"], "key": key.link}
            return "access-ready", given | moment(key.ends_at)
        case "topped_up":
            return "topped-up", amounts(details, "value", "wallet") | reason(details)
        case "missing":
            return "missing", amounts(details, "value", "wallet", "missing") | reason(details)
        case "left_over":
            return "left-over", amounts(details, "over", "wallet")
        case "friend_registered":
            return "friend-registered", {}
        case "reward_earned":
            return _reward(details)
        case "access_ended":
            return "access-ended", moment(datetime.fromisoformat(details["ended_at"]))
        case _:
            assert_never(kind)


def _reward(details: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    given = {"reward": Money(details["reward_minor"]), "percent": details["percent"], "paying": details["paying"]}
    if details["next_level_at"] is None:
        return "reward-earned-at-the-top", given
    left = max(1, details["next_level_at"] - details["paying"])
    return "reward-earned", given | {"left": left, "next": details["next_percent"]}


def reason(details: Mapping[str, Any]) -> dict[str, Any]:
    """A reason that the catalogue does not know has words, too."""
    return {"reason": details.get("reason") or "unknown"}


def amounts(details: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: Money(details[f"{name}_minor"]) for name in names}


def moment(at: datetime) -> dict[str, Any]:
    """The parts of a moment in UTC, for `{ moment }` in the catalogue; the year is no number to be grouped."""
    utc = at.astimezone(UTC)
    return {"day": utc.day, "month": utc.month, "year": str(utc.year), "time": f"{utc:%H:%M}"}
