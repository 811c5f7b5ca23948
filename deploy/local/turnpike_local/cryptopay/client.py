"""The owner of the app in @CryptoBot, and its payers, for tests and demos."""

from typing import Any

from turnpike_local.standin.client import ControlClient

from .planned_faults import Answer, Fate

Json = dict[str, Any]


class CryptoPayError(Exception):
    """The stand-in refused. The text is its sentence."""


class CryptoPayClient(ControlClient):
    """The control API; use it as an async context manager. Every act returns the app's state."""

    refused = CryptoPayError

    async def app(self) -> Json:
        return await self.request("GET", "app")

    async def allow(self, **settings: bool) -> Json:
        """Switch `transfers` and their `comments` on or off."""
        return await self.request("POST", "app", json=settings)

    async def set_webhook(self, url: str) -> Json:
        """Send notices to `url`; an empty one ends them. Failures are forgotten."""
        return await self.request("POST", "webhook", json={"url": url})

    async def add_person(self, user_id: int) -> Json:
        """A person who has used @CryptoBot, and can get a transfer."""
        return await self.request("POST", "people", json={"user_id": user_id})

    async def add_to_balance(self, asset: str, amount: str) -> Json:
        return await self.request("POST", "balance", json={"asset": asset, "add": amount})

    async def set_rate(self, asset: str, usd: str, *, is_valid: bool = True) -> Json:
        rate = {"asset": asset, "usd": usd, "is_valid": is_valid}
        return await self.request("POST", "rates", json=rate)

    async def pay(
        self, invoice_id: int, asset: str, *, anonymously: bool = False, comment: str = ""
    ) -> Json:
        body = {"asset": asset, "anonymously": anonymously, "comment": comment}
        return await self.request("POST", f"invoices/{invoice_id}/pay", json=body)

    async def expire(self, invoice_id: int) -> Json:
        """Let an open invoice end now."""
        return await self.request("POST", f"invoices/{invoice_id}/expire", json={})

    async def repeat(self, invoice_id: int) -> Json:
        """Send the notice of a paid invoice again."""
        return await self.request("POST", f"invoices/{invoice_id}/repeat", json={})

    async def plan_fault(self, answer: Answer, *, method: str = "", count: int = 1) -> Json:
        """Fail the next `count` calls in this way, of one method or of any."""
        body = {"answer": answer, "method": method, "count": count}
        return await self.request("POST", "faults", json=body)

    async def plan_notice(self, fate: Fate, *, late_s: int = 0, count: int = 1) -> Json:
        """What happens to the notices of the next `count` payments."""
        body = {"notice": fate, "late_s": late_s, "count": count}
        return await self.request("POST", "faults", json=body)

    async def recover(self) -> Json:
        """Remove all planned faults."""
        return await self.request("POST", "faults", json={"clear": True})

    async def request(self, verb: str, path: str, **options: Any) -> Json:
        return await self._request(verb, f"/stand-in/{path}", **options)
