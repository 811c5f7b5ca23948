"""Every screen of bot-gateway with values of its own, and the catalogue that it speaks."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import get_args
from uuid import uuid4

from bot_gateway.chats import balance_screens, buy_screens, pay_screens, screens
from bot_gateway.chats.buttons import SkipEmail
from bot_gateway.chats.buy_screens import Offer
from bot_gateway.chats.pay import OVER
from bot_gateway.chats.screens import Say, Screen
from shared.contracts.payments import (
    AskedByWay,
    Balance,
    BalanceLine,
    InvoiceRefusedReason,
    OpenedInvoice,
    Plan,
    Plans,
    Price,
    ReceiptLine,
    Receipts,
    Rest,
    SavedMethod,
)
from shared.contracts.referrals import Invitations
from shared.contracts.vpn import Access, Key, Outlook
from shared.platform.texts import Texts
from tests.kit.bot_payments import RUBLES, STARS, TELEGRAM

NOW = datetime(2026, 11, 22, 21, 13, tzinfo=UTC)
TO_PAY = timedelta(minutes=29, seconds=59)
TEXTS = Texts("bot_gateway")
APP_SITES = ("https://www.happ.su/", "https://hiddify.com")
PLAN = Plan(
    plan="plus",
    devices=10,
    traffic_bytes=None,
    prices=(Price(months=12, price_minor=229900, stars=1529),),
)
ODD = PLAN.model_copy(update={"plan": "<b>odd&plan</b>"})
ALL_WAYS = (STARS, *RUBLES, TELEGRAM)
OPENED = OpenedInvoice(
    order=uuid4(),
    invoice=uuid4(),
    what="subscription",
    payload="p",
    plan="plus",
    months=12,
    list_month_minor=29900,
    price_minor=229900,
    way="stars",
    asked_minor=1529,
    currency="XTR",
    worth_minor=229900,
    state="open",
    expires_at=NOW,
    expires_in_s=1800,
)
PART = OPENED.model_copy(update={"asked_minor": 4900, "currency": "RUB", "worth_minor": 4900})
TOPUP = OPENED.model_copy(update={"what": "topup", "plan": None, "months": None})
REST = Rest(
    order=OPENED.order,
    what="subscription",
    plan="plus",
    months=12,
    price_minor=229900,
    missing_minor=4900,
    balance_minor=225000,
    ways=tuple(
        AskedByWay(way=way.way, asked_minor=max(4900, way.least_minor), currency=way.currency)
        for way in ALL_WAYS
    ),
)
OUTLOOK = Outlook(effect="converts", plan="basic", converted_hours=257, ends_at=NOW)
OFFER = Offer(PLAN, PLAN.prices[0], (STARS,), 0, OUTLOOK)
LINK = "https://t.me/$slug"
BALANCE = Balance(
    wallet_minor=5000,
    earned_minor=1490,
    owed_minor=700,
    withdrawable_minor=0,
    lines=tuple(
        BalanceLine(at=NOW, reason=reason, amount_minor=amount)
        for reason, amount in (
            ("receipt", 14900),
            ("topup", 50000),
            ("owed_settled", -700),
            ("purchase", -14900),
            ("reward", 1),
            ("new_reason", 0),
        )
    ),
)
PAGE = BALANCE.model_copy(update={"earlier": uuid4(), "later": uuid4()})
INVITATIONS = Invitations(
    invited=3, paying=2, earned_minor=1490, percent=10, next_level_at=25, next_percent=25
)
PAID = Receipts(
    lines=(ReceiptLine(charge="stx<1>", paid_at=NOW, currency="XTR", amount_minor=1529),)
)
SAVED = (
    SavedMethod(name="s0a1b2c", way="card", title="<b>Bank card"),
    SavedMethod(name="s0a1b2d", way="sbp", title=""),
)
CARD_BY_RUBLES = PART.model_copy(update={"way": "card", "remembers": False})
KEY = Key(link="vless://8d4f@host:443?security=reality&sni=x<y", ends_at=NOW)

RICH = REST.model_copy(update={"balance_minor": 229900})
NOT_TOPPED_UP = REST.model_copy(update={"what": "topup", "plan": None, "months": None})
NOTHING = RICH.model_copy(update={"missing_minor": 0, "ways": ()})
CLOSED = REST.model_copy(update={"ways": ()})

SKIP = SkipEmail(order=OPENED.order, way="sbp", from_balance=True)

SCREENS: dict[str, Callable[[Say], Screen]] = {
    "welcome": screens.welcome,
    "hello": screens.hello,
    "menu": screens.menu,
    "language": screens.language,
    "terms": lambda say: screens.terms(say, accepted=True),
    "terms before they are accepted": lambda say: screens.terms(say, accepted=False),
    "invoice of a part": partial(pay_screens.invoice, PART, OUTLOOK, LINK, TO_PAY),
    "invoice of a top-up": partial(pay_screens.invoice, TOPUP, None, LINK, TO_PAY),
    "invoice beside the balance": lambda say: pay_screens.invoice(
        PART, None, LINK, TO_PAY, say, from_balance=True
    ),
    "invoice that is prepared": partial(pay_screens.asking, PART),
    "top-up that is prepared": partial(pay_screens.asking, TOPUP),
    "invoice that may remember": partial(pay_screens.invoice, CARD_BY_RUBLES, None, LINK, TO_PAY),
    "charge of a saved method": partial(pay_screens.charging, PART),
    "ways with saved ones": lambda say: pay_screens.rest(
        REST.model_copy(update={"saved": SAVED}), say, from_balance=True
    ),
    **{
        f"ways after a charge: {reason}": partial(pay_screens.other_ways, REST, refused=reason)
        for reason in get_args(InvoiceRefusedReason)
    },
    "balance with saved methods": lambda say: balance_screens.balance(
        BALANCE.model_copy(update={"saved": SAVED}), say
    ),
    "question before forgetting": partial(balance_screens.forgetting, SAVED[0]),
    "rest": lambda say: pay_screens.rest(REST, say, from_balance=False),
    "rest beside the balance": lambda say: pay_screens.rest(REST, say, from_balance=True),
    "rest that the balance can pay": lambda say: pay_screens.rest(RICH, say, from_balance=False),
    "rest of a top-up": lambda say: pay_screens.rest(NOT_TOPPED_UP, say, from_balance=False),
    "rest that is nothing": lambda say: pay_screens.rest(NOTHING, say, from_balance=True),
    "ways after a refusal": partial(pay_screens.other_ways, REST),
    "ways after a decline": lambda say: pay_screens.other_ways(REST, say, was_canceled=True),
    "rest without ways": lambda say: pay_screens.rest(CLOSED, say, from_balance=False),
    "not understood": screens.not_understood,
    "slowly": screens.slowly,
    "connect": screens.connect,
    **{f"order over: {reason}": partial(pay_screens.order_over, reason) for reason in sorted(OVER)},
    "privacy": screens.privacy,
    "plans": lambda say: buy_screens.plans(Plans(plans=(PLAN, ODD), ways=ALL_WAYS), say),
    "no plans": lambda say: buy_screens.plans(Plans(plans=(), ways=(STARS,)), say),
    "periods": lambda say: buy_screens.periods(PLAN, (STARS,), say),
    "periods in rubles": lambda say: buy_screens.periods(PLAN, ALL_WAYS, say),
    **{
        f"ways {name}": partial(buy_screens.ways, offer, uuid4())
        for name, offer in {
            "with Stars": OFFER,
            "of all kinds": replace(OFFER, ways=ALL_WAYS),
            "beside a balance": replace(OFFER, ways=ALL_WAYS, balance_minor=225_000),
            "beside enough": replace(OFFER, ways=ALL_WAYS, balance_minor=229_900),
            "with saved ones": replace(OFFER, ways=ALL_WAYS, saved=SAVED),
            "without any": replace(OFFER, ways=()),
            "of a balance alone": replace(OFFER, ways=(), balance_minor=229_900),
        }.items()
    },
    **{
        f"invoice that {effect}": partial(
            pay_screens.invoice,
            OPENED,
            OUTLOOK.model_copy(update={"effect": effect}),
            "https://t.me/$slug",
            TO_PAY,
        )
        for effect in get_args(Outlook.model_fields["effect"].annotation)
    },
    "invoice without an outlook": partial(pay_screens.invoice, OPENED, None, LINK, TO_PAY),
    **{
        f"access {state}": partial(
            screens.access, Access(state=state, plan="plus", devices=10, ends_at=NOW), NOW
        )
        for state in get_args(Access.model_fields["state"].annotation)
    },
    "access of nobody": lambda say: screens.access(Access(state="up"), NOW, say),
    "key": lambda say: screens.key(KEY, say),
    "qr": lambda say: screens.qr_caption(KEY, say),
    "balance": lambda say: balance_screens.balance(BALANCE, say),
    "history": lambda say: balance_screens.history(PAGE, say),
    "top-up": balance_screens.topup,
    "amount": balance_screens.amount,
    "not an amount": balance_screens.not_an_amount,
    "e-mail": lambda say: pay_screens.email(SKIP, say, again=False),
    "e-mail again": lambda say: pay_screens.email(SKIP, say, again=True),
    "receipts": lambda say: balance_screens.receipt_email("a@example.com", say),
    "receipts without an e-mail": lambda say: balance_screens.receipt_email(None, say),
    "not an e-mail": balance_screens.not_an_email,
    "balance with receipts": lambda say: balance_screens.balance(
        BALANCE.model_copy(update={"asks_email": True}), say
    ),
    "ways of a top-up": lambda say: balance_screens.topup_ways(
        100_000, Plans(plans=(), ways=ALL_WAYS, saved=SAVED), uuid4(), say
    ),
    "ways of a closed top-up": lambda say: balance_screens.topup_ways(
        100, Plans(plans=(), ways=()), uuid4(), say
    ),
    "empty balance": lambda say: balance_screens.balance(
        BALANCE.model_copy(update={"lines": (), "owed_minor": 0}), say
    ),
    "friends": lambda say: screens.friends(INVITATIONS, "https://t.me/bot?start=r_x", say),
    "friends at the top": lambda say: screens.friends(
        INVITATIONS.model_copy(update={"next_level_at": None, "next_percent": None}),
        "https://t.me/b?start=r_x",
        say,
    ),
    "support": lambda say: screens.support("@turnpike_help", PAID, say),
    "support of nobody": lambda say: screens.support(None, PAID, say),
    "support before the first payment": lambda say: screens.support(None, Receipts(lines=()), say),
    "support without payments": lambda say: screens.support("@turnpike_help", None, say),
    "trouble": lambda say: screens.trouble("pay:plus:12:stars:x", say),
    "trouble after a command": lambda say: screens.trouble(None, say),
}


def saying(language: str) -> Say:
    return partial(TEXTS, language)
