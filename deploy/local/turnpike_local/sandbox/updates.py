"""Delivery of updates to the bot: by long polling with its offset, or by webhook with retries."""

import asyncio
from dataclasses import dataclass

import aiohttp

from shared.platform.backoff import backoff
from turnpike_local.standin.posting import Poster, is_address

from .backend import Backend
from .planned_faults import PlannedFaults
from .records import Update
from .rules import Json, Refused, bad_request, check_secret_token

_POLL_MOST_S = 50  # The limit of the Bot API server.
_BATCH = 100
_PENDING_READ = 1000
_IDLE_S = 5.0


@dataclass
class Webhook:
    """The webhook of the bot. It is stored, so that posting continues after a restart."""

    url: str = ""
    secret_token: str = ""
    max_connections: int = 40
    last_error_date: int | None = None
    last_error_message: str | None = None


class Polling:
    """getUpdates: one poll at a time. A newer poll ends the older one."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._terminated: asyncio.Event | None = None
        self._reason = ""

    @property
    def is_waited_for(self) -> bool:
        return self._terminated is not None

    async def get(self, *, offset: int, limit: int, timeout_s: int) -> list[Json]:
        """Confirm updates below `offset`, then wait up to `timeout_s` for pending ones."""
        if self._backend.state.setting("webhook", {}).get("url"):
            raise _conflict(
                "can't use getUpdates method while webhook is active; "
                "use deleteWebhook to delete the webhook first"
            )
        self.terminate(
            "terminated by other getUpdates request; "
            "make sure that only one bot instance is running"
        )
        terminated = self._terminated = asyncio.Event()
        self._confirm(offset)
        try:
            return await self._wait(
                min(max(limit, 1), _BATCH), min(max(timeout_s, 0), _POLL_MOST_S), terminated
            )
        finally:
            if self._terminated is terminated:
                self._terminated = None

    def terminate(self, reason: str) -> None:
        """End a waiting poll with a conflict and this reason."""
        if self._terminated is not None:
            self._reason = reason
            self._terminated.set()
            self._backend.updates_changed.set()

    def _confirm(self, offset: int) -> None:
        state = self._backend.state
        with state.transaction():
            state.drop_updates_older_than(self._backend.now() - self._backend.limits.update_kept_s)
            if offset < 0:
                state.confirm_all_but_newest(-offset)
            elif offset > 0:
                state.confirm_updates(offset)

    async def _wait(self, limit: int, timeout_s: int, terminated: asyncio.Event) -> list[Json]:
        ends_at_s = asyncio.get_running_loop().time() + timeout_s
        while True:
            if terminated.is_set():
                raise _conflict(self._reason)
            updates = self._backend.state.pending_updates(limit)
            left_s = ends_at_s - asyncio.get_running_loop().time()
            if updates or left_s <= 0:
                break
            await self._backend.updates_changed.wait(left_s)
        with self._backend.state.transaction():
            self._backend.state.mark_handed_out(updates)
        return [update.as_json() for update in updates]


@dataclass
class _Queue:
    """One queue of a webhook: updates of one kind and one person, posted one after the other."""

    failures: int = 0
    not_before_s: float = 0.0
    busy: bool = False


class Posting(Poster):
    """The webhook: in order within a queue, several queues at once, until 2xx or for a day.

    A queue is (kind, person): in Telegram too, a pre-checkout query may overtake the messages of
    its chat. Telegram demands HTTPS on four ports; here, plain HTTP on any port of this machine is
    accepted. An answer's body is not read as a method call.
    """

    def __init__(self, backend: Backend, faults: PlannedFaults) -> None:
        super().__init__(timeout_s=backend.limits.webhook_timeout_s)
        self._backend = backend
        self._faults = faults
        self._queues: dict[tuple[str, int], _Queue] = {}

    @property
    def webhook(self) -> Webhook:
        return Webhook(**self._backend.state.setting("webhook", {}))

    def set(self, webhook: Webhook) -> None:
        """Use this webhook, or none with an empty address. The count of retries is reset."""
        check_secret_token(webhook.secret_token)
        if webhook.url and not is_address(webhook.url):
            raise bad_request("bad webhook: An HTTPS URL must be provided for webhook")
        self._backend.state.put_setting("webhook", vars(webhook))
        self._queues.clear()
        self._backend.updates_are_waiting()

    def info(self) -> Json:
        webhook = self.webhook
        known: Json = {
            "url": webhook.url,
            "has_custom_certificate": False,
            "pending_update_count": self._backend.state.pending_update_count(),
        }
        if webhook.url:
            known["max_connections"] = webhook.max_connections
        if webhook.last_error_message:
            known["last_error_date"] = webhook.last_error_date
            known["last_error_message"] = webhook.last_error_message
        allowed = self._backend.state.setting("allowed_updates", [])
        return {**known, **({"allowed_updates": allowed} if allowed else {})}

    async def _run(self) -> None:
        while True:
            await self._backend.updates_changed.wait(self._post_due())

    def _post_due(self) -> float:
        """Start a post for the head of every queue that is due.

        Returns the seconds until the next call.
        """
        webhook = self.webhook
        if not webhook.url or self._faults.is_down:
            return min(_IDLE_S, self._faults.down_for_s or _IDLE_S)
        backend, now_s = self._backend, asyncio.get_running_loop().time()
        backend.state.drop_updates_older_than(backend.now() - backend.limits.update_kept_s)
        wait_s, seen = _IDLE_S, set()
        for update in backend.state.pending_updates(_PENDING_READ):
            key = (update.kind, update.person_id)
            queue = self._queues.setdefault(key, _Queue())
            if key in seen or queue.busy:
                continue
            seen.add(key)
            if queue.not_before_s > now_s:
                wait_s = min(wait_s, queue.not_before_s - now_s)
            elif len(self._posts) < webhook.max_connections:
                self._start_post(webhook, update, key)
        return wait_s

    def _start_post(self, webhook: Webhook, update: Update, key: tuple[str, int]) -> None:
        self._queues[key].busy = True
        self._begin(self._post(webhook, update, key))

    async def _post(self, webhook: Webhook, update: Update, key: tuple[str, int]) -> None:
        problem = await self._try(webhook, update)
        queue = self._queues.pop(key, _Queue())
        if problem is None:
            self._backend.state.remove_update(update.update_id)
        elif webhook.url == self.webhook.url:
            self._queues[key] = self._postponed(queue, problem)
        self._backend.updates_changed.set()

    async def _try(self, webhook: Webhook, update: Update) -> str | None:
        """None after a 2xx, else the sentence for getWebhookInfo."""
        headers = (
            {"X-Telegram-Bot-Api-Secret-Token": webhook.secret_token}
            if webhook.secret_token
            else {}
        )
        try:
            async with self._http.post(
                webhook.url, json=update.as_json(), headers=headers
            ) as answer:
                if 200 <= answer.status < 300:
                    return None
                return f"Wrong response from the webhook: {answer.status} {answer.reason}"
        except TimeoutError:
            return "Read timeout expired"
        except aiohttp.ClientConnectorError:
            return "Connection refused"
        except aiohttp.ClientError as error:
            return f"Connection closed: {type(error).__name__}"

    def _postponed(self, queue: _Queue, problem: str) -> _Queue:
        limits, webhook = self._backend.limits, self.webhook
        webhook.last_error_date, webhook.last_error_message = int(self._backend.now()), problem
        self._backend.state.put_setting("webhook", vars(webhook))
        pause_s = backoff(
            queue.failures,
            first_s=limits.webhook_retry_first_s,
            longest_s=limits.webhook_retry_most_s,
        )
        not_before_s = asyncio.get_running_loop().time() + pause_s
        return _Queue(queue.failures + 1, not_before_s)


def _conflict(reason: str) -> Refused:
    return Refused(409, f"Conflict: {reason}")
