"""The screens of the balance: what it holds, why it changed, and adding to it."""

from collections.abc import Sequence
from uuid import UUID

from bot_gateway.chats.buttons import AskForget, Forget, Go, History, PayTopUp, TopUp, packed
from bot_gateway.chats.buy_screens import how, saved_rows, title_of, way_rows
from bot_gateway.chats.screens import Button, Say, Screen, back, screen, to
from bot_gateway.domain.ways import asked_by_ways
from shared.contracts.money import Money
from shared.contracts.payments import (
    LEAST_TOPUP_MINOR,
    MOST_TOPUP_MINOR,
    Balance,
    BalanceLine,
    Plans,
    SavedMethod,
    SavedName,
    Way,
)
from shared.platform.texts import Day

TOPUPS_RUBLES = (250, 500, 1_000)
LIMITS = {"least": Money(LEAST_TOPUP_MINOR), "most": Money(MOST_TOPUP_MINOR)}


def balance(held: Balance, say: Say) -> Screen:
    amounts = say(
        "balance",
        total=Money(held.wallet_minor + held.earned_minor),
        wallet=Money(held.wallet_minor),
        earned=Money(held.earned_minor),
    )
    if held.owed_minor:
        amounts += "\n" + say("balance-owed", owed=Money(held.owed_minor))
    lately = "\n".join([say("balance-lines"), *lines(held.lines, say)]) if held.lines else ""
    adding = [to(say("button-topup"), Go(to="topup"))]
    onward = [to(say("button-buy"), Go(to="buy")), to(say("button-friends"), Go(to="friends"))]
    forget = [
        [to(say("button-forget", method=title_of(one, say)), AskForget(method=one.name))]
        for one in held.saved
    ]
    receipts = [to(say("button-receipts"), Go(to="email"))] if held.asks_email else []
    text = f"{amounts}\n\n{lately}".rstrip()
    return screen(text, adding, onward, receipts, pages(held, say), *forget, back(say))


def receipt_email(email: str | None, say: Say) -> Screen:
    """Where receipts go now. The next message is another e-mail."""
    if email is None:
        return screen(say("email-none"), back(say, "balance"))
    remove = [to(say("button-remove-email"), Go(to="no_email"))]
    return screen(say("email-known", email=email), remove, back(say, "balance"))


def not_an_email(say: Say) -> Screen:
    return screen(say("email-not-read"), back(say, "balance"))


def history(held: Balance, say: Say) -> Screen:
    """A page of older movements."""
    text = "\n".join([say("balance-history"), "", *lines(held.lines, say)])
    return screen(text, pages(held, say), back(say, "balance"))


def lines(shown: Sequence[BalanceLine], say: Say) -> list[str]:
    return [
        say(
            "balance-line",
            day=Day(line.at),
            amount=Money(line.amount_minor, signed=True),
            reason=line.reason,
        )
        for line in shown
    ]


def pages(held: Balance, say: Say) -> list[Button]:
    row = []
    if held.later is not None:
        row.append(to(say("button-later"), History(page="after", transfer=held.later)))
    if held.earlier is not None:
        row.append(to(say("button-earlier"), History(page="before", transfer=held.earlier)))
    return row


def topup(say: Say) -> Screen:
    amounts = [
        to(say("button-amount", amount=Money(100 * rubles)), TopUp(rubles=rubles))
        for rubles in TOPUPS_RUBLES
    ]
    other = [to(say("button-other-amount"), Go(to="amount"))]
    return screen(say("topup"), amounts[:2], amounts[2:], other, back(say, "balance"))


def amount(say: Say) -> Screen:
    """The next message is the amount."""
    return screen(say("topup-amount", **LIMITS), back(say, "topup"))


def not_an_amount(say: Say) -> Screen:
    return screen(say("topup-not-an-amount", **LIMITS), back(say, "topup"))


def topup_ways(rubles: int, offered: Plans, command: UUID, say: Say) -> Screen:
    """`command` becomes the order's id, as on the screen of a purchase."""
    amount_minor = 100 * rubles
    asked = asked_by_ways(offered.ways, amount_minor, stars=None)

    def button(way: Way | SavedName) -> PayTopUp:
        return PayTopUp(rubles=rubles, way=way, command=packed(command))

    parts = [say("topup-order", amount=Money(amount_minor)), *how(asked, amount_minor, say)]
    return screen(
        "\n\n".join(parts),
        *saved_rows(offered.saved, asked, button, say),
        *way_rows(asked, button, say),
        back(say, "topup"),
    )


def forgetting(method: SavedMethod, say: Say) -> Screen:
    """The question before a saved method is forgotten."""
    return screen(
        say("forget", method=title_of(method, say)),
        [to(say("button-forget-it"), Forget(method=method.name))],
        back(say, "balance"),
    )
