"""A message in a person's language: its text, and its buttons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

from notifier.domain.messages import Kind, shows_key
from shared.contracts.money import Money
from shared.contracts.vpn import Effect, Key
from shared.platform.texts import Texts

# Buttons: the text of each in the catalogue, and the callback data that bot-gateway understands.
# The message of such a button stays as it is.
MY_ACCESS = ("button-my-access", "go:access")
QR_CODE = ("button-qr", "go:qr")
BUY = ("button-buy", "below:buy")
BUY_AGAIN = ("button-buy-again", "below:buy")
RENEW = ("button-renew", "below:buy")
BALANCE = ("button-balance", "below:balance")
FRIENDS = ("button-friends", "below:friends")
SUPPORT = ("button-support", "below:support")

TEXTS = Texts("notifier")


@dataclass(frozen=True)
class Button:
    text: str
    callback_data: str


@dataclass(frozen=True)
class Words:
    """Text in Telegram's HTML."""

    text: str
    rows: tuple[tuple[Button, ...], ...] = ()


def words(kind: Kind, details: Mapping[str, Any], language: str, key: Key | None = None) -> Words:
    """The words of a message of this kind. One that `shows_key` needs the `key`."""
    parts = [TEXTS(language, name, **arguments) for name, arguments in _parts(kind, details, key)]
    rows = tuple(
        tuple(Button(TEXTS(language, name), data) for name, data in row)
        for row in _buttons(kind, details)
    )
    return Words("\n\n".join(parts), rows)


Part = tuple[str, dict[str, Any]]
"""The name of a text in the catalogue, and its arguments."""


def _parts(kind: Kind, details: Mapping[str, Any], key: Key | None) -> list[Part]:
    match kind:
        case "paid_issuing" if "balance_minor" in details:
            name = "paid-restored" if "restored" in details else "paid-from-balance"
            return [(name, from_balance(details))]
        case "paid_issuing":
            return [("paid-issuing", paid(details)), *_rest(details)]
        case "access_ready" | "left_over":
            return [*_granted(details, key), *_rest(details), *_key(details, key)]
        case "topped_up" if details.get("reason") == "topped_up":
            return [("balance-topped-up", amounts(details, "value", "wallet"))]
        case "topped_up":
            return [("topped-up", paid(details) | amounts(details, "wallet") | reason(details))]
        case "missing":
            held = amounts(details, "wallet", "missing")
            onward: list[Part] = [("pay-rest", {})] if details["lacking"] else []
            return [("missing", paid(details) | held | reason(details)), *onward]
        case "refunded":
            return _refunded(details)
        case "friend_registered":
            return [("friend-registered", {})]
        case "reward_earned":
            return [_reward(details)]
        case "access_ended":
            return [("access-ended", {"moment": datetime.fromisoformat(details["ended_at"])})]
        case "access_expiring":
            return [_expiring(details)]
        case _:
            assert_never(kind)


Row = Sequence[tuple[str, str]]
"""Buttons side by side: the names of their texts, and their callback data."""


def _buttons(kind: Kind, details: Mapping[str, Any]) -> Sequence[Row]:
    """The next steps, the likeliest first. A long one has a row of its own on a narrow phone."""
    match kind:
        case "paid_issuing":
            return [[MY_ACCESS], [SUPPORT]]
        case "access_ready" | "left_over":
            return [[QR_CODE, MY_ACCESS]] if shows_key(kind, details) else [[MY_ACCESS]]
        case "missing" if details["lacking"]:
            return [[("button-pay-rest", f"rest:{details['lacking']}")], [BALANCE, SUPPORT]]
        case "topped_up" if details.get("reason") == "topped_up":
            return [[BUY, BALANCE]]
        case "topped_up" | "missing":
            return [[BUY, BALANCE], [SUPPORT]]
        case "refunded":
            return [[MY_ACCESS, BALANCE], [SUPPORT]]
        case "friend_registered":
            return [[FRIENDS]]
        case "reward_earned":
            return [[FRIENDS], [BALANCE]]
        case "access_ended":
            return [[BUY_AGAIN], [SUPPORT]]
        case "access_expiring":
            return [[RENEW], [MY_ACCESS]]
        case _:
            assert_never(kind)


def _granted(details: Mapping[str, Any], key: Key | None) -> list[Part]:
    """What the order made of the access. A key that was queried knows the newest end."""
    ends_at = key.ends_at if key else datetime.fromisoformat(details["ends_at"])
    access = {"plan": details["plan"], "devices": details["devices"], "moment": ends_at}
    effect: Effect = details.get("effect", "begins")
    match effect:
        case "begins":
            return [("access-ready", access)]
        case "extends":
            return [("access-extended", access)]
        case "converts":
            return [("access-changed", access), _converted(details)]
        case _:
            assert_never(effect)


def _converted(details: Mapping[str, Any]) -> Part:
    plans = {"before": details["plan_before"], "plan": details["plan"]}
    days, hours = divmod(details["converted_hours"], 24)
    if days == hours == 0:
        return "converted-nothing", plans
    return "converted-time", plans | {"days": days, "hours": hours}


def _key(details: Mapping[str, Any], key: Key | None) -> list[Part]:
    """A renewal keeps the key that the person has, unless its link is new."""
    if key is None or not shows_key("access_ready", details):
        return [("same-key", {})]
    moved = details.get("new_link", False)
    return [("new-link" if moved else "key", {"key": key.link})]


def _rest(details: Mapping[str, Any]) -> list[Part]:
    """What is left over of a payment of too much, or in the wallet that paid."""
    if "balance_minor" in details:
        name = "restored" if "restored" in details else "from-balance"
        return [(name, from_balance(details))]
    if "over_minor" not in details:
        return []
    return [("left-over", amounts(details, "over", "wallet"))]


def _refunded(details: Mapping[str, Any]) -> list[Part]:
    """What was returned, each kind of purchase that it undid once, and what is owed."""
    parts: list[Part] = [("refunded", paid(details))]
    for share in details["undone"]:
        name = "refund-ended" if share["whole"] else "refund-shortened"
        part = (name, {"plan": share["plan"], "months": share["months"]})
        if part not in parts:
            parts.append(part)
    if details["owed_minor"]:
        parts.append(("refund-owed", amounts(details, "owed")))
        if details.get("restored_for_minor"):
            parts.append(("refund-restored", amounts(details, "restored_for")))
    else:
        parts.append(("refund-wallet", amounts(details, "wallet")))
    return parts


def _expiring(details: Mapping[str, Any]) -> Part:
    """A step of days is named in days. The message may come late, so less than it is left."""
    moment = datetime.fromisoformat(details["ends_at"])
    days, hours = divmod(details["hours"], 24)
    return "access-expiring", {"moment": moment, "days": days, "hours": hours}


def _reward(details: Mapping[str, Any]) -> Part:
    arguments = {
        "reward": Money(details["reward_minor"]),
        "percent": details["percent"],
        "paying": details["paying"],
    }
    if details["next_level_at"] is None:
        return "reward-earned-at-the-top", arguments
    left = max(1, details["next_level_at"] - details["paying"])
    return "reward-earned", arguments | {"left": left, "next": details["next_percent"]}


def reason(details: Mapping[str, Any]) -> dict[str, Any]:
    """The reason as an argument. The catalogue has words for a missing reason too."""
    return {"reason": details.get("reason") or "unknown"}


def paid(details: Mapping[str, Any]) -> dict[str, Any]:
    """The money in the currency that was paid."""
    return {"paid": Money(details["paid_minor"], details.get("currency", "RUB"))}


def from_balance(details: Mapping[str, Any]) -> dict[str, Any]:
    """The price that the balance paid, and what the wallet holds now."""
    return {"paid": Money(details["balance_minor"])} | amounts(details, "wallet")


def amounts(details: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: Money(details[f"{name}_minor"]) for name in names}
