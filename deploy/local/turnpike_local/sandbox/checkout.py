"""A payment in Telegram's order: pre-checkout query, approval, charge, report."""

import asyncio
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from turnpike_local.standin.outside import CardTaker, NotPossibleError, Outside

from . import shapes
from .backend import Backend
from .records import Checkout, Direction, Invoice, Person, StarTransaction
from .rules import QUERY_TOO_OLD, STARS, InvoiceDraft, Json, Refused, bad_request

BOT_SILENT = "The bot did not answer in time. You were not charged."


class PaymentRefused(Exception):  # noqa: N818 - an answer to the person, not an error.
    """Nothing was charged. The message is shown to the person."""


@dataclass(frozen=True)
class Payment:
    """The result of a payment: a charge, or the error that the person saw."""

    charge: str | None = None
    error: str | None = None


class Payments:
    """Takes payments of people. The bot has ten seconds to approve each."""

    def __init__(self, backend: Backend, cards: Mapping[str, CardTaker] | None = None) -> None:
        """`cards`: the acquirers of cards, by provider token."""
        self._backend = backend
        self.cards = cards or {}
        self._waiting: dict[str, asyncio.Future[Payment]] = {}

    def invoice(self, draft: InvoiceDraft, message_id: int | None) -> Invoice:
        """Store an invoice. The first trace id in its payload makes that trace a purchase."""
        self._backend.state.purchases.placed(draft, self._backend.now())
        self._backend.purchase_was_placed()
        slug = self._backend.state.add_invoice(draft, message_id)
        return Invoice(slug, message_id, draft)

    def shown(self, person: Person, keyboard: Json | None) -> None:
        """A keyboard is in this person's chat: the purchases behind its links are theirs."""
        rows = keyboard["inline_keyboard"] if keyboard else []
        purchases = self._backend.state.purchases
        for url in (button["url"] for row in rows for button in row if "url" in button):
            slug = invoice_slug(url)
            invoice = self._backend.state.invoice(slug) if slug else None
            if invoice:
                purchases.shown(invoice.draft, person.id)
            elif slug is None:
                purchases.page_shown(url, person.id)

    async def pay(self, person: Person, slug: str) -> Payment:
        """Send the pre-checkout query, wait for its answer, and return the result."""
        with self._backend.transaction():
            checkout_id = self._ask(person, slug)
        answered: asyncio.Future[Payment] = asyncio.get_running_loop().create_future()
        self._waiting[checkout_id] = answered
        try:
            return await asyncio.wait_for(answered, self._backend.limits.pre_checkout_s)
        except TimeoutError:
            return self._expire(person, checkout_id)
        finally:
            del self._waiting[checkout_id]

    def _ask(self, person: Person, slug: str) -> str:
        backend = self._backend
        invoice = self.payable(person, slug)
        checkout_id = backend.state.add_checkout(person.id, slug, backend.now())
        backend.state.purchases.tried(invoice.draft, person.id, "asked")
        backend.queue_update(
            "pre_checkout_query", person.id, shapes.pre_checkout_query(checkout_id, person, invoice)
        )
        return checkout_id

    def payable(self, person: Person, slug: str) -> Invoice:
        """The invoice, if this person can pay it now. Raises PaymentRefused."""
        invoice = self._backend.state.invoice(slug)
        if invoice is None:
            raise PaymentRefused("This invoice does not exist.")
        if invoice.message_id is not None and self._backend.state.was_paid(slug):
            raise PaymentRefused("This invoice is paid already.")
        if invoice.draft.currency == STARS and person.stars < invoice.draft.total_amount:
            raise PaymentRefused(
                f"Not enough Stars: {invoice.draft.total_amount} needed, {person.stars} available."
            )
        return invoice

    def answer(self, checkout_id: str, *, ok: bool, error_message: str) -> None:
        """The bot's answer. A second or late one is refused like one to an unknown query."""
        backend = self._backend
        checkout = backend.state.checkout(checkout_id)
        too_late = backend.now() - backend.limits.pre_checkout_s
        if checkout is None or checkout.state != "asked" or checkout.asked_at < too_late:
            raise bad_request(QUERY_TOO_OLD)
        if ok:
            payment = self._charge(checkout)
        else:
            self._end(checkout, "refused")
            payment = Payment(error=error_message)
        if payment.error:
            backend.toast(checkout.person_id, "payment", payment.error, alert=True)
        self._resolve(checkout.id, payment)

    def _charge(self, checkout: Checkout) -> Payment:
        state = self._backend.state
        person, invoice = self._parties(checkout)
        try:
            # Another invoice may have taken the Stars meanwhile.
            self.payable(person, checkout.slug)
        except PaymentRefused as refusal:
            self._end(checkout, "refused")
            return Payment(error=str(refusal))
        charge, reference = f"stx{secrets.token_urlsafe(33)}", None
        if invoice.draft.currency == STARS:
            self._move_stars(person, invoice, charge, incoming=True)
            state.purchases.charged(invoice.draft, person.id)
        else:
            try:
                reference = self._take_card(invoice)
            except NotPossibleError as refusal:
                self._end(checkout, "refused")
                return Payment(error=str(refusal))
        state.mark_paid(checkout.id, charge)
        content = shapes.payment_content("successful_payment", invoice, checkout, charge, reference)
        report, report_id = self._backend.person_says(person, content)
        state.keep_report(checkout.id, report_id, report)
        return Payment(charge=charge)

    def _take_card(self, invoice: Invoice) -> str:
        """Charge the card at its acquirer; the acquirer's id. Raises `NotPossibleError`.

        The acquirer does not know whose order it is: Telegram keeps the payload.
        """
        draft, acquirer = invoice.draft, self.cards.get(invoice.draft.provider_token)
        if acquirer is None:
            raise NotPossibleError("The payment provider is not available.")
        reference = acquirer.take_card(draft.total_amount, draft.title)
        paid = Outside(
            provider=acquirer.title,
            reference=reference,
            payload=draft.payload,
            way="card in Telegram",
            title=draft.title,
            amount_minor=draft.total_amount,
            currency=draft.currency,
            url="",
            state="paid",
        )
        self._backend.state.purchases.told(paid, self._backend.now())
        return reference

    def refund(self, user_id: int, charge: str) -> None:
        """Return the Stars, once. Telegram answers a second call with CHARGE_ALREADY_REFUNDED.

        It returns no money of cards: only their acquirer does.
        """
        checkout = self._backend.state.checkout_of_charge(charge)
        if checkout is None or checkout.person_id != user_id:
            raise bad_request("CHARGE_ID_INVALID")
        person, invoice = self._parties(checkout)
        if invoice.draft.currency != STARS:
            raise bad_request("CHARGE_ID_INVALID")
        if not self._move_stars(person, invoice, charge, incoming=False):
            raise bad_request("CHARGE_ALREADY_REFUNDED")
        self._backend.state.purchases.refunded(invoice.draft)
        self._backend.person_says(
            person, shapes.payment_content("refunded_payment", invoice, checkout, charge)
        )

    def _move_stars(self, person: Person, invoice: Invoice, charge: str, *, incoming: bool) -> bool:
        backend, amount = self._backend, invoice.draft.total_amount
        direction: Direction = "in" if incoming else "out"
        moved = StarTransaction(
            charge, direction, person.id, amount, invoice.draft.payload, backend.now()
        )
        is_new = backend.state.add_star_transaction(moved)
        if is_new:
            backend.state.add_stars(person.id, -amount if incoming else amount)
        return is_new

    def _expire(self, person: Person, checkout_id: str) -> Payment:
        with self._backend.transaction():
            checkout = self._backend.state.checkout(checkout_id)
            assert checkout is not None  # Checkouts are never removed.
            if checkout.state == "paid":  # The answer came as the wait ended.
                return Payment(charge=checkout.charge)
            self._end(checkout, "expired")
            self._backend.toast(person.id, "payment", BOT_SILENT, alert=True)
        return Payment(error=BOT_SILENT)

    def _end(self, checkout: Checkout, how: Literal["refused", "expired"]) -> None:
        state = self._backend.state
        state.end_checkout(checkout.id, how)
        if invoice := state.invoice(checkout.slug):
            state.purchases.tried(invoice.draft, checkout.person_id, how)

    def _resolve(self, checkout_id: str, payment: Payment) -> None:
        waiting = self._waiting.get(checkout_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(payment)

    def _parties(self, checkout: Checkout) -> tuple[Person, Invoice]:
        person = self._backend.state.person(checkout.person_id)
        invoice = self._backend.state.invoice(checkout.slug)
        if person is None or invoice is None:
            raise Refused(500, "Internal Server Error")
        return person, invoice


def invoice_slug(url: str) -> str | None:
    """The invoice that a link of Telegram opens."""
    match = re.fullmatch(r"https?://t\.me/(?:\$|invoice/)([\w-]+)", url)
    return match.group(1) if match else None
