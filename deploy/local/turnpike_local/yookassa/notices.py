"""Notices to the merchant's address: repeated until it answers 200, for 24 hours."""

import json

from turnpike_local.standin.posting import NoticeLoop

from .backend import Backend
from .lifecycle import Payments
from .records import Notice


class Notices(NoticeLoop[Notice]):
    """A loop that also ends what is due, and forgets what the provider keeps no longer."""

    def __init__(self, backend: Backend, payments: Payments) -> None:
        super().__init__(backend.limits.notices, backend.notices_changed)
        self._backend = backend
        self._payments = payments

    def tick(self) -> None:
        backend, limits = self._backend, self._backend.limits
        now_ms = backend.clock.now_ms()
        with backend.state.transaction():
            more_to_end = self._payments.end_due()
            backend.state.forget(
                keys_until_ms=now_ms - round(limits.key_kept_s * 1000),
                notices_until_ms=now_ms - round(limits.notice_kept_s * 1000),
                payments_until_ms=now_ms - round(limits.kept_s * 1000),
            )
        if more_to_end:
            backend.notices_changed.set()
        super().tick()

    def _address(self) -> str:
        return str(self._backend.state.setting("notice_url", ""))

    def _due(self, most: int) -> list[Notice]:
        return self._backend.state.due_notices(self._backend.clock.now_ms(), most)

    def _written(self, notice: Notice) -> tuple[bytes, dict[str, str]]:
        return json.dumps(notice.body).encode(), {}

    def _posted(self, notice: Notice, url: str, *, accepted: bool) -> None:
        pause_ms = self._backend.limits.notices.pause_ms(notice.attempts)
        self._backend.state.change_notice(
            notice.id,
            "delivered" if accepted else "waiting",
            self._backend.clock.now_ms() + pause_ms,
            notice.attempts + 1,
        )
