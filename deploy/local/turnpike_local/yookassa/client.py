"""The control API for tests and demos: the payer, the cabinet, and planned faults."""

from typing import Any

from turnpike_local.standin.client import ControlClient

from .errors import Json


class ControlError(Exception):
    """The stand-in refused. The text is its sentence."""


class YookassaControl(ControlClient):
    """Use it as an async context manager."""

    refused = ControlError
    sentence = "description"

    async def health(self) -> Json:
        return await self._request("GET", "/stand-in/health")

    async def set_notice_url(self, url: str) -> None:
        await self._post("cabinet", notice_url=url)

    async def pay(self, payment_id: str, *, method: str | None = None) -> Json:
        """Pay as the payer. With `capture` false, the money is on hold afterwards."""
        return await self._post(f"payments/{payment_id}/pay", method=method)

    async def decline(self, payment_id: str, reason: str | None = None) -> Json:
        return await self._post(f"payments/{payment_id}/decline", reason=reason)

    async def expire(self, payment_id: str) -> Json:
        """End the link of a pending payment, or the hold of a paid one."""
        return await self._post(f"payments/{payment_id}/expire")

    async def refund_in_cabinet(self, payment_id: str, amount: Json | None = None) -> Json:
        return await self._post(f"payments/{payment_id}/refund", amount=amount)

    async def charge_back(self, payment_id: str) -> Json:
        return await self._post(f"payments/{payment_id}/charge-back")

    async def chargebacks(self) -> list[Json]:
        chargebacks: list[Json] = (await self._request("GET", "/stand-in/register"))["chargebacks"]
        return chargebacks

    async def decline_saved(self, method_id: str, reason: str | None) -> None:
        """Cancel later charges of a saved method for this reason. None accepts them again."""
        await self._post(f"methods/{method_id}/decline", reason=reason)

    async def settle(self, refund_id: str, reason: str | None = None) -> Json:
        """End a pending refund: it succeeds, or is canceled for this reason."""
        return await self._post(f"refunds/{refund_id}/settle", reason=reason)

    async def notices(self) -> list[Json]:
        """Newest first."""
        notices: list[Json] = (await self._request("GET", "/stand-in/notices"))["notices"]
        return notices

    async def repeat(self, notice_id: int) -> None:
        await self._post(f"notices/{notice_id}/repeat")

    async def plan_answer(self, answer: str, **options: str | int) -> None:
        """Options are `call`, `times` and `retry_after_ms`."""
        await self._post("faults/answers", answer=answer, **options)

    async def plan_notice(self, **options: str | int | bool) -> None:
        """Options are `event`, `late_s`, `never` and `times`."""
        await self._post("faults/notices", **options)

    async def plan_refund(self, reason: str | None = None) -> None:
        """The next refund stays pending, or is canceled for this reason."""
        await self._post("faults/refunds", reason=reason)

    async def plan_pending_charge(self) -> None:
        """The next charge of a saved method stays pending. `pay` and `decline` end it."""
        await self._post("faults/charges")

    async def receipts(self) -> list[Json]:
        """The receipts apart from payments, the newest first."""
        receipts: list[Json] = (await self._request("GET", "/stand-in/receipts"))["receipts"]
        return receipts

    async def plan_registration(self, status: str) -> None:
        """The next receipt stays `pending`, or is `canceled`."""
        await self._post("faults/registrations", status=status)

    async def settle_registration(self, id_: str, status: str = "succeeded") -> None:
        """The tax office answers for a pending receipt of a payment, a refund, or its own."""
        await self._post(f"registrations/{id_}/settle", status=status)

    async def _post(self, path: str, **body: Any) -> Json:
        given = {name: value for name, value in body.items() if value is not None}
        return await self._request("POST", f"/stand-in/{path}", json=given)
