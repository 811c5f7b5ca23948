"""Row 27: a provider opens an invoice, and its answer is an error or never comes."""

import asyncio
import re
from typing import Literal

import aiohttp

from tests.chaos.load import Purchase
from tests.chaos.trial import Trial
from tests.kit.acquirers import Way

HOWS: tuple[Literal["500", "lost"], ...] = ("500", "lost")
UNKNOWN = re.compile(
    r'^turnpike_invoice_openings_total\{.*outcome="unknown".*\} (\S+)$', re.MULTILINE
)
UNREAD = re.compile(
    r'^turnpike_payment_reads_total\{.*outcome="unanswered".*\} (\S+)$', re.MULTILINE
)


async def answers_lost(trial: Trial) -> None:
    """27 (R-70): the provider acts, then answers 500 or cuts the connection: opened once.

    The same of the reading after payment: a charged payment is read again, and booked once.
    """
    faults = trial.size(20, 4)
    for how in HOWS:
        await _fail(trial, how, "create", faults)
    unknown_before = await _sum_of(trial, UNKNOWN)
    purchases = await _at_providers(trial, trial.size(60, 12))
    unknown = await _sum_of(trial, UNKNOWN) - unknown_before
    await _expect_opened_once(trial, purchases)
    trial.expect(f"all lost answers were met: {unknown} of {4 * faults}", unknown >= 4 * faults)
    for how in HOWS:
        await _fail(trial, how, "read", faults)
    unread_before = await _sum_of(trial, UNREAD)
    more = await trial.load.place_orders(trial.size(400, 80))
    await trial.pay([*purchases, *more])
    await trial.expect_quiescent("the shop after the answers were lost", 120)
    await trial.expect_all_money("watcher")
    unread = await _sum_of(trial, UNREAD) - unread_before
    trial.expect(f"readings failed: {unread}", unread > 0)
    await _expect_opened_once(trial, [*purchases, *more])
    trial.faults.append(
        f"{4 * faults} answers of opening and {4 * faults} of reading lost or 500, "
        f"{unknown} and {unread} seen by the shop"
    )


async def _fail(trial: Trial, how: Literal["500", "lost"], call: str, times: int) -> None:
    for acquirer in trial.shop.tills.by_name.values():
        await acquirer.fail_calls(how, call, times)


async def _at_providers(trial: Trial, count: int) -> list[Purchase]:
    """So many orders at each provider, asked for at once, once they are opened."""
    ways: tuple[Way, ...] = ("sbp", "crypto")
    wanted = [(buyer, way) for way in ways for buyer in trial.load.next_buyers(count)]
    invoices = await asyncio.gather(
        *(trial.load.place_order(buyer, way=way) for buyer, way in wanted)
    )
    placed = [
        Purchase(buyer, invoice, "right")
        for (buyer, _), invoice in zip(wanted, invoices, strict=True)
    ]
    return await trial.load.opened(placed)


async def _expect_opened_once(trial: Trial, purchases: list[Purchase]) -> None:
    """By the providers' own listings: one invoice for each payload, and that one is known here."""
    for name, acquirer in trial.shop.tills.by_name.items():
        listed = await acquirer.listed()
        own = [one for one in purchases if one.acquirer == name]
        for one in own:
            references = [
                reference
                for reference, payload, _ in listed
                if payload.split(".")[1:2] == [one.invoice.invoice.hex]
            ]
            seen = f"{name} has {references} for invoice {one.invoice.invoice}"
            trial.expect(f"each is opened once: {seen}", references == [one.reference])


async def _sum_of(trial: Trial, sample: re.Pattern[str]) -> int:
    """A counter of payments, of all providers."""
    url = trial.shop.services["payments"].url
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
        text = await answer.text()
    return sum(int(float(value)) for value in sample.findall(text))
