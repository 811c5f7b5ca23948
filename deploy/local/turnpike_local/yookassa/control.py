"""The entry point for people and tests: JSON under `/stand-in/`, which YooKassa does not have."""

from dataclasses import asdict
from typing import Any, Literal, cast, get_args

from aiohttp import web

from turnpike_local.standin.plan import PLANNED_MOST
from turnpike_local.standin.posting import is_address

from .backend import EVENTS, Backend
from .errors import Json, invalid, not_found
from .fields import Fields, money
from .lifecycle import Payments
from .notices import Notices
from .planned_faults import (
    Answer,
    PlannedAnswer,
    PlannedCharge,
    PlannedNotice,
    PlannedRefund,
    PlannedRegistration,
)
from .records import Payment
from .refunds import REASONS, Refunds
from .registrations import Registrations
from .shop import METHODS, MethodType

_LISTED_MOST = 100
_LATE_MOST_S = 86_400


class Control:
    """The routes. Each reads the request, acts in one transaction and answers."""

    def __init__(
        self,
        backend: Backend,
        payments: Payments,
        refunds: Refunds,
        registrations: Registrations,
        notices: Notices,
    ) -> None:
        self._backend = backend
        self._payments = payments
        self._refunds = refunds
        self._registrations = registrations
        self._notices = notices

    def routes(self) -> list[web.RouteDef]:
        payment = "/stand-in/payments/{id}"
        return [
            web.get("/stand-in/health", self._health),
            web.post("/stand-in/cabinet", self._set_cabinet),
            web.post(f"{payment}/pay", self._pay),
            web.post(f"{payment}/decline", self._decline),
            web.post(f"{payment}/expire", self._expire),
            web.post(f"{payment}/refund", self._refund),
            web.post(f"{payment}/charge-back", self._charge_back),
            web.get("/stand-in/register", self._register),
            web.post("/stand-in/methods/{id}/decline", self._decline_saved),
            web.post("/stand-in/refunds/{id}/settle", self._settle),
            web.get("/stand-in/notices", self._list_notices),
            web.post(r"/stand-in/notices/{id:\d{1,18}}/repeat", self._repeat),
            web.post("/stand-in/faults/answers", self._plan_answers),
            web.post("/stand-in/faults/notices", self._plan_notices),
            web.post("/stand-in/faults/refunds", self._plan_refund),
            web.post("/stand-in/faults/charges", self._plan_charge),
            web.get("/stand-in/receipts", self._list_receipts),
            web.post("/stand-in/registrations/{id}/settle", self._settle_registration),
            web.post("/stand-in/faults/registrations", self._plan_registration),
        ]

    async def _health(self, _: web.Request) -> web.Response:
        is_running = self._notices.is_running
        return web.json_response({"ok": is_running}, status=200 if is_running else 503)

    async def _set_cabinet(self, request: web.Request) -> web.Response:
        fields = await _body(request)
        url = fields.url("notice_url", most=2048)
        fields.end()
        if not is_address(url):
            raise invalid("An https address is expected", "notice_url")
        with self._backend.transaction():
            self._backend.state.put_setting("notice_url", url)
        return web.json_response({"notice_url": url})

    # The acts of the payer

    async def _pay(self, request: web.Request) -> web.Response:
        fields = await _body(request)
        method = cast(MethodType | None, fields.one_of("method", METHODS))
        fields.end()
        with self._backend.transaction():
            self._payments.pay(_id(request), method)
        return self._shown(request)

    async def _decline(self, request: web.Request) -> web.Response:
        fields = await _body(request)
        reason = fields.text("reason", most=64) or "general_decline"
        fields.end()
        with self._backend.transaction():
            self._payments.decline(_id(request), reason)
        return self._shown(request)

    # The acts of the provider and of the merchant's cabinet

    async def _expire(self, request: web.Request) -> web.Response:
        (await _body(request)).end()
        with self._backend.transaction():
            self._payments.expire(_id(request))
        return self._shown(request)

    async def _refund(self, request: web.Request) -> web.Response:
        fields = await _body(request)
        amount_minor = fields.amount("amount")
        fields.end()
        with self._backend.transaction():
            refund = self._refunds.create_in_cabinet(_id(request), amount_minor)
        return web.json_response(refund)

    async def _charge_back(self, request: web.Request) -> web.Response:
        (await _body(request)).end()
        with self._backend.transaction():
            self._payments.charge_back(_id(request))
        return self._shown(request)

    async def _register(self, _: web.Request) -> web.Response:
        """The chargebacks of the register file: the only place that names them."""
        charged_back = self._backend.state.charged_back(_LISTED_MOST)
        return web.json_response({"chargebacks": [_chargeback(one) for one in charged_back]})

    async def _decline_saved(self, request: web.Request) -> web.Response:
        fields = await _body(request)
        reason = fields.text("reason", most=64)
        fields.end()
        with self._backend.transaction():
            self._payments.decline_saved(_id(request), reason)
        return web.json_response({"decline": reason})

    async def _settle(self, request: web.Request) -> web.Response:
        fields = await _body(request)
        reason = fields.one_of("reason", REASONS)
        fields.end()
        with self._backend.transaction():
            refund = self._refunds.settle(_id(request), reason)
        return web.json_response(refund)

    async def _list_receipts(self, _: web.Request) -> web.Response:
        """The receipts apart from payments, with the e-mail that they went to."""
        newest = self._backend.state.receipts(_LISTED_MOST)
        return web.json_response({"receipts": [asdict(one) for one in newest]})

    async def _settle_registration(self, request: web.Request) -> web.Response:
        fields = await _body(request)
        status = fields.one_of("status", ("succeeded", "canceled"), required=True)
        fields.end()
        with self._backend.transaction():
            self._registrations.settle(_id(request), str(status))
        return web.json_response({"status": status})

    # Notices

    async def _list_notices(self, _: web.Request) -> web.Response:
        newest = self._backend.state.notices(_LISTED_MOST)
        return web.json_response({"notices": [asdict(one) for one in newest]})

    async def _repeat(self, request: web.Request) -> web.Response:
        """Send a notice once more, even one that was accepted or dropped."""
        (await _body(request)).end()
        notice = self._backend.state.notice(int(_id(request)))
        if notice is None:
            raise not_found("There is no such notice")
        with self._backend.transaction():
            now_ms = self._backend.clock.now_ms()
            self._backend.state.change_notice(notice.id, "waiting", now_ms, notice.attempts)
        return web.json_response({"repeated": notice.id})

    # Faults

    async def _plan_answers(self, request: web.Request) -> web.Response:
        fields = await _body(request)
        answer = cast(Answer, fields.one_of("answer", get_args(Answer), required=True))
        call = fields.text("call", most=64)
        retry_after_ms = fields.whole("retry_after_ms", most=3_600_000) or 1800
        times = _times(fields)
        self._backend.faults.answers.add(PlannedAnswer(answer, call, retry_after_ms), times)
        return web.json_response({"planned": times})

    async def _plan_notices(self, request: web.Request) -> web.Response:
        fields = await _body(request)
        event = fields.one_of("event", EVENTS)
        late_s = fields.whole("late_s", most=_LATE_MOST_S)
        fault = PlannedNotice(event, late_s or 0, never=fields.flag("never"))
        times = _times(fields)
        self._backend.faults.notices.add(fault, times)
        return web.json_response({"planned": times})

    async def _plan_refund(self, request: web.Request) -> web.Response:
        """The next refund stays pending, or is canceled for a reason."""
        fields = await _body(request)
        reason = fields.one_of("reason", REASONS)
        fields.end()
        self._backend.faults.refunds.add(PlannedRefund(reason))
        return web.json_response({"planned": 1})

    async def _plan_charge(self, request: web.Request) -> web.Response:
        """The next charge of a saved method stays pending."""
        (await _body(request)).end()
        self._backend.faults.charges.add(PlannedCharge())
        return web.json_response({"planned": 1})

    async def _plan_registration(self, request: web.Request) -> web.Response:
        """The next receipt stays unregistered, or cannot be registered."""
        fields = await _body(request)
        status = fields.one_of("status", ("pending", "canceled"), required=True)
        fields.end()
        fault = PlannedRegistration(cast(Literal["pending", "canceled"], status))
        self._backend.faults.registrations.add(fault)
        return web.json_response({"planned": 1})

    def _shown(self, request: web.Request) -> web.Response:
        return web.json_response(self._backend.shown(_id(request)))


def _chargeback(one: Payment) -> Json:
    return {
        "payment_id": one.id,
        "amount": money(one.amount_minor),
        "charged_back_at_ms": one.charged_back_at_ms,
    }


def _times(fields: Fields) -> int:
    times = fields.whole("times", most=PLANNED_MOST) or 1
    fields.end()
    return times


def _id(request: web.Request) -> str:
    return request.match_info["id"]


async def _body(request: web.Request) -> Fields:
    """The JSON object of the body. The content type excludes forms of other sites."""
    if request.content_type != "application/json":
        raise invalid("Send application/json")
    try:
        body: Any = await request.json()
    except ValueError:
        raise invalid("The body is not JSON") from None
    return Fields(body)
