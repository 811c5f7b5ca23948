"""Delivery of `invoice_paid` to the app's webhook: signed, repeated, and switched off at last."""

import hashlib
import hmac
import json

from turnpike_local.standin.clock import iso
from turnpike_local.standin.posting import NoticeLoop

from . import shapes
from .provider import Provider
from .records import Invoice, Notice

SIGNATURE = "crypto-pay-api-signature"


class Notices(NoticeLoop[Notice]):
    """Posts until the app answers 200.

    Too many failures within the window switch the webhook off, and what waits is dropped.
    """

    def __init__(self, provider: Provider, token: str) -> None:
        super().__init__(provider.limits.notices, provider.notices_changed)
        self._provider = provider
        self._key = hashlib.sha256(token.encode()).digest()

    def _address(self) -> str:
        return self._provider.webhook

    def _due(self, most: int) -> list[Notice]:
        return self._provider.state.notices(self._provider.now_ms, most)

    def _written(self, notice: Notice) -> tuple[bytes, dict[str, str]]:
        invoice = self._provider.state.invoice(notice.invoice_id)
        assert invoice is not None  # A paid invoice is never removed.
        body = self._body(notice, invoice)
        return body, {SIGNATURE: hmac.new(self._key, body, hashlib.sha256).hexdigest()}

    def _body(self, notice: Notice, invoice: Invoice) -> bytes:
        now_ms = self._provider.now_ms
        update = {
            "update_id": notice.update_id,
            "update_type": "invoice_paid",
            "request_date": iso(now_ms),
            "payload": shapes.invoice(invoice, self._provider.pay_url(invoice), now_ms),
        }
        return json.dumps(update, ensure_ascii=False).encode()

    def _posted(self, notice: Notice, url: str, *, accepted: bool) -> None:
        if accepted:
            self._provider.state.remove_notice(notice.id)
        elif url == self._provider.webhook:
            self._failed(notice)

    def _failed(self, notice: Notice) -> None:
        state, limits, now_ms = self._provider.state, self._provider.limits, self._provider.now_ms
        since_ms = now_ms - int(limits.webhook_failures_window_s * 1000)
        with state.transaction():
            state.postpone(notice.id, now_ms + limits.notices.pause_ms(notice.attempts))
            if state.add_failure(now_ms, since_ms) >= limits.webhook_failures_most:
                state.put_setting("webhook", "")
                state.drop_notices()
