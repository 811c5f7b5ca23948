"""A step of a scenario at YooKassa: a purchase whose notice is lost."""

from urllib.parse import parse_qs, urlsplit

from turnpike_local.sandbox.client import Chat, PersonClient
from turnpike_local.yookassa import YookassaControl

TAPS = ("Buy", "Basic", "1 month", "SBP")


async def pay_unnoticed(person: PersonClient, yookassa: YookassaControl, timeout_s: float) -> str:
    """Buy a month by SBP. YooKassa never tells the shop of it. Returns the payment's id."""
    for name in TAPS:
        await person.press(name)
    chat = await person.wait_for(
        lambda chat: bool(pay_pages(chat)), timeout_s=timeout_s, what="the page to pay on"
    )
    payment = parse_qs(urlsplit(pay_pages(chat)[-1]).query)["orderId"][0]
    await yookassa.plan_notice(event="payment.succeeded", never=True)
    await yookassa.pay(payment)
    return payment


def pay_pages(chat: Chat) -> list[str]:
    """The links in the chat that lead to YooKassa's pay pages, oldest first."""
    urls = [button.url or "" for message in chat.from_bot for button in message.buttons]
    return [url for url in urls if "orderId=" in url]


async def dropped_notices(payment: str, yookassa: YookassaControl) -> int:
    """How many notices about this payment were never sent."""
    about = [one for one in await yookassa.notices() if one["body"]["object"]["id"] == payment]
    return sum(one["state"] == "dropped" for one in about)
