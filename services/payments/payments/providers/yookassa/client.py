"""The client of YooKassa: thin calls of its API v3."""

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from payments.domain.provider import (
    Asked,
    Failure,
    Finding,
    FiscalKind,
    FiscalReceipt,
    Forged,
    Malformed,
    Notice,
    Opened,
    Page,
    Payment,
    Refund,
    RefundDone,
    RefundPage,
    RefundPending,
    Refusal,
    Registering,
    Registration,
    Returning,
    Unknown,
    Unreadable,
    Unsupported,
    Way,
)
from payments.providers.caller import CALL_TIMEOUT_S, Answer, Caller, json_object
from payments.providers.protocol import Known
from payments.providers.reading import Json, apart, readable
from payments.providers.yookassa.messages import (
    METHODS,
    PAGE,
    amount_body,
    charged_from,
    findings_from,
    is_theirs,
    items_of,
    next_of,
    notice_from,
    object_by,
    opened_by,
    opened_from,
    payload_of,
    payment_body,
    payment_from,
    receipt_body,
    refund_body,
    refund_from,
    refunded_by,
    registered_by,
    registration_of,
    window_query,
)
from payments.settings import Settings

NAME = "yookassa"
CURRENCY = "RUB"
FIND_PAGES = 10
CLOCKS_DIFFER = timedelta(minutes=5)
NOTICE_BYTES = 128 * 1024
_REFERENCE = re.compile(r"[0-9A-Za-z_-]{1,64}")
_WALKS = ("created", "captured")
NO_BALANCE = Unsupported(
    "YooKassa tells no balance: it pays out by itself. Compare its registers of payouts."
)
REGISTERED_IN: dict[FiscalKind, str] = {
    "payment": "payments",
    "offset": "receipts",
    "refund": "refunds",
}
_NO_CURRENCY = Refusal("currency", "The shop at YooKassa has rubles only.")
_NO_CURSOR = Refusal("cursor", "The text does not continue a listing of YooKassa.")


def provider_from(settings: Settings) -> "Yookassa":
    shop_id, secret_key = settings.yookassa_shop_id, settings.yookassa_secret_key
    assert shop_id is not None, "the table asks for it"
    assert secret_key is not None, "the settings refuse a shop without its key"
    return Yookassa(
        shop_id,
        secret_key.get_secret_value(),
        settings.yookassa_api_url,
        sends_receipts=settings.receipts,
    )


class Yookassa:
    """One shop. A call with an unclear answer is repeated with the same key, within 24 hours."""

    name = NAME
    ways: tuple[Way, ...] = tuple(METHODS)
    reads_at_once = 1
    returning = Returning(in_parts=True, keyed=True)

    def __init__(
        self,
        shop_id: str,
        secret_key: str,
        api_url: str,
        *,
        proxy: str | None = None,
        call_timeout_s: float = CALL_TIMEOUT_S,
        page: int = PAGE,
        sends_receipts: bool = False,
    ) -> None:
        credentials = base64.b64encode(f"{shop_id}:{secret_key}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}"}
        self._shop_id = shop_id
        self._page = page
        self._sends_receipts = sends_receipts
        self._caller = Caller(NAME, api_url, headers, proxy=proxy, call_timeout_s=call_timeout_s)

    async def start(self) -> None:
        await self._caller.start()

    async def close(self) -> None:
        await self._caller.close()

    async def check(self) -> tuple[Finding, ...]:
        me = await self._get("me", "GET me")
        return findings_from(me, self._shop_id, receipts=self._sends_receipts)

    async def open(self, asked: Asked) -> Opened | Failure:
        if asked.way not in METHODS or asked.currency != CURRENCY:
            return Refusal("way", f"YooKassa takes no {asked.currency} by {asked.way}.")
        answer = await self._post("payments", f"open-{asked.invoice}", payment_body(asked))
        if not isinstance(answer, dict):
            return answer
        return opened_by(answer, by_saved_method=asked.charges)

    async def find(self, asked: Asked) -> Opened | Failure | None:
        cursor: str | None = ""
        for _ in range(FIND_PAGES):
            query = window_query("created_at", asked.since - CLOCKS_DIFFER, None)
            page = await self._list("payments", query, cursor)
            if not isinstance(page, tuple):
                return page
            items, cursor = page
            for one, name in items:
                if payload_of(one) == asked.payload:
                    found = readable(charged_from if asked.charges else opened_from, one, name)
                    return found if isinstance(found, Opened) else Unknown(found.sentence, "find")
            if cursor is None:
                return None
        return Unknown(f"not among the first {FIND_PAGES} pages of payments", "find")

    async def read(self, references: Sequence[str]) -> Known | Failure:
        assert len(references) <= self.reads_at_once
        known: dict[str, Payment | Unreadable] = {}
        for reference in references:
            answer = await self._get_one("payments", reference)
            if isinstance(answer, dict):
                known[reference] = readable(payment_from, answer, reference)
            elif answer is not None:
                return answer
        return known

    def parse_notice(self, headers: Mapping[str, str], body: bytes, peer: str | None) -> Notice:
        """YooKassa signs nothing: only the address speaks for a notice, so read it back."""
        if peer is not None and not is_theirs(peer):
            return Forged("the sender's address is none of YooKassa's")
        if len(body) > NOTICE_BYTES:
            return Malformed(f"more than {NOTICE_BYTES} bytes")
        return notice_from(json_object(body))

    async def list_payments(
        self, since: datetime, until: datetime, after: str | None
    ) -> Page | Failure:
        """Two walks: payments made in the window, then older ones that were captured in it."""
        walk, colon, cursor = (after or "created:").partition(":")
        if walk not in _WALKS or not colon:
            return _NO_CURSOR
        query = window_query(f"{walk}_at", since, until)
        page = await self._list("payments", query, cursor)
        if not isinstance(page, tuple):
            return page
        items, onward = page
        payments, unreadable = apart([readable(payment_from, *one) for one in items])
        if walk == "captured":
            payments = [one for one in payments if one.created_at < since]
        following = f"{walk}:{onward}" if onward else "captured:" if walk == "created" else None
        return Page(tuple(payments), tuple(unreadable), following)

    async def list_refunds(
        self, since: datetime, until: datetime, after: str | None
    ) -> RefundPage | Failure:
        query = window_query("created_at", since, until)
        page = await self._list("refunds", query, after)
        if not isinstance(page, tuple):
            return page
        items, onward = page
        refunds, unreadable = apart([readable(refund_from, *one) for one in items])
        return RefundPage(tuple(refunds), tuple(unreadable), onward)

    async def balance(self) -> Unsupported:
        return NO_BALANCE

    async def refund(
        self,
        reference: str,
        amount_minor: int,
        currency: str,
        key: UUID,
        receipt: FiscalReceipt | None = None,
    ) -> RefundDone | RefundPending | Failure:
        if currency != CURRENCY:
            return _NO_CURRENCY
        body = refund_body(reference, amount_minor, currency, receipt)
        answer = await self._post("refunds", f"refund-{key}", body)
        return refunded_by(answer) if isinstance(answer, dict) else answer

    async def read_refund(self, reference: str) -> Refund | Unreadable | Failure | None:
        answer = await self._get_one("refunds", reference)
        return readable(refund_from, answer, reference) if isinstance(answer, dict) else answer

    async def capture(
        self, reference: str, amount_minor: int, currency: str
    ) -> Payment | Unreadable | Failure:
        if currency != CURRENCY:
            return _NO_CURRENCY
        key = f"capture-{reference}-{amount_minor}"
        return await self._change(
            reference, "capture", key, {"amount": amount_body(amount_minor, currency)}
        )

    async def cancel(self, reference: str) -> Payment | Unreadable | Failure:
        return await self._change(reference, "cancel", f"cancel-{reference}", {})

    async def register(
        self, payment: str, receipt: FiscalReceipt, key: UUID
    ) -> Registering | Failure:
        answer = await self._post("receipts", f"receipt-{key}", receipt_body(payment, receipt))
        return registered_by(answer) if isinstance(answer, dict) else answer

    async def read_registration(
        self, kind: FiscalKind, reference: str
    ) -> Registration | Failure | None:
        answer = await self._get_one(REGISTERED_IN[kind], reference)
        return registration_of(answer, kind) if isinstance(answer, dict) else answer

    async def _change(
        self, reference: str, act: str, key: str, body: Json
    ) -> Payment | Unreadable | Failure:
        if not _REFERENCE.fullmatch(reference):
            return Refusal("not_found", "The reference is none of YooKassa's.")
        path = f"payments/{reference}/{act}"
        answer = await self._post(path, key, body, call=f"POST payments/{act}")
        return readable(payment_from, answer, reference) if isinstance(answer, dict) else answer

    async def _list(
        self, what: str, query: dict[str, str], cursor: str | None
    ) -> tuple[list[tuple[object, str]], str | None] | Failure:
        """The objects of a page, and the cursor of the next one."""
        query = query | {"limit": str(self._page)} | ({"cursor": cursor} if cursor else {})
        answer = await self._get(what, f"GET {what}", query)
        if not isinstance(answer, dict):
            return answer
        items = items_of(answer)
        return (items, next_of(answer)) if isinstance(items, list) else items

    async def _get_one(self, what: str, reference: str) -> Json | Failure | None:
        """None for an object that YooKassa does not know."""
        if not _REFERENCE.fullmatch(reference):
            return None
        answer = await self._get(f"{what}/{reference}", f"GET {what}/id")
        unknown = isinstance(answer, Refusal) and answer.code == "not_found"
        return None if unknown else answer

    async def _get(
        self, path: str, call: str, query: Mapping[str, str] | None = None
    ) -> Json | Failure:
        answer = await self._caller.ask("GET", path, call=call, query=query)
        return object_by(answer) if isinstance(answer, Answer) else answer

    async def _post(
        self, path: str, key: str, body: Json, *, call: str | None = None
    ) -> Json | Failure:
        answer = await self._caller.ask(
            "POST", path, call=call or f"POST {path}", headers={"Idempotence-Key": key}, body=body
        )
        return object_by(answer) if isinstance(answer, Answer) else answer
