"""Updates on their way to the bot: long polling with its offset, or a webhook with its retries."""

import asyncio
import logging
from dataclasses import dataclass

import aiohttp

from .backend import Backend
from .records import Update
from .rules import Json, Refused, bad_request, check_secret_token
from .stumbles import Stumbles

log = logging.getLogger(__name__)

_POLL_MOST_S = 50  # The Bot API server caps the wait there.
_BATCH = 100
_PENDING_LOOKED_AT = 1000
_IDLE_S = 5.0


@dataclass
class Webhook:
    """Where updates are posted; kept, so that a restart goes on posting."""

    url: str = ""
    secret_token: str = ""
    max_connections: int = 40
    last_error_date: int | None = None
    last_error_message: str | None = None


class Polling:
    """getUpdates: one poll at a time, the newer one ends the older."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._terminated: asyncio.Event | None = None
        self._reason = ""

    async def get(self, *, offset: int, limit: int, timeout_s: int) -> list[Json]:
        """Confirm what lies before `offset`, then wait for up to `timeout_s` until there is something to hand out."""
        if self._backend.state.setting("webhook", {}).get("url"):
            raise _conflict(
                "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
            )
        self.terminate("terminated by other getUpdates request; make sure that only one bot instance is running")
        terminated = self._terminated = asyncio.Event()
        self._confirm(offset)
        try:
            return await self._wait(min(max(limit, 1), _BATCH), min(max(timeout_s, 0), _POLL_MOST_S), terminated)
        finally:
            if self._terminated is terminated:
                self._terminated = None

    def terminate(self, reason: str) -> None:
        """End a poll that waits, with a conflict that says why."""
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
class _Line:
    """One queue of a webhook: a person's updates of one kind go one after the other."""

    failures: int = 0
    not_before_s: float = 0.0
    busy: bool = False


class Posting:
    """The webhook: in order within a line, several lines at once, until 2xx or a day has passed.

    Lines are (kind, person): Telegram too lets a pre-checkout query overtake the messages of its chat. Telegram wants
    HTTPS on four ports; on this machine plain HTTP on any port is taken. An answer's body is not read as a method call.
    """

    def __init__(self, backend: Backend, stumbles: Stumbles) -> None:
        self._backend = backend
        self._stumbles = stumbles
        self._lines: dict[tuple[str, int], _Line] = {}
        self._posts: set[asyncio.Task[None]] = set()
        self._runs: asyncio.Task[None] | None = None
        self._http: aiohttp.ClientSession | None = None

    @property
    def webhook(self) -> Webhook:
        return Webhook(**self._backend.state.setting("webhook", {}))

    def set(self, webhook: Webhook) -> None:
        """Use this webhook, or with an empty address none; tries are counted anew."""
        check_secret_token(webhook.secret_token)
        if webhook.url and not webhook.url.startswith(("https://", "http://127.0.0.1", "http://localhost")):
            raise bad_request("bad webhook: An HTTPS URL must be provided for webhook")
        self._backend.state.put_setting("webhook", vars(webhook))
        self._lines.clear()
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

    def start(self) -> None:
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._backend.limits.webhook_timeout_s),
            connector=aiohttp.TCPConnector(limit=100),
        )
        self._runs = asyncio.create_task(self._run(), name="webhook")
        self._runs.add_done_callback(_tell_of_death)

    @property
    def is_running(self) -> bool:
        return self._runs is not None and not self._runs.done()

    async def stop(self) -> None:
        tasks = [*self._posts, *([self._runs] if self._runs else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    async def _run(self) -> None:
        while True:
            await self._backend.updates_changed.wait(self._post_what_is_due())

    def _post_what_is_due(self) -> float:
        """Start a post for the head of every line that may try; answers the seconds until the next look."""
        webhook = self.webhook
        if not webhook.url or self._stumbles.is_down:
            return min(_IDLE_S, self._stumbles.down_for_s or _IDLE_S)
        backend, now_s = self._backend, asyncio.get_running_loop().time()
        backend.state.drop_updates_older_than(backend.now() - backend.limits.update_kept_s)
        wait_s, seen = _IDLE_S, set()
        for update in backend.state.pending_updates(_PENDING_LOOKED_AT):
            key = (update.kind, update.person_id)
            line = self._lines.setdefault(key, _Line())
            if key in seen or line.busy:
                continue
            seen.add(key)
            if line.not_before_s > now_s:
                wait_s = min(wait_s, line.not_before_s - now_s)
            elif len(self._posts) < webhook.max_connections:
                self._start_post(webhook, update, key)
        return wait_s

    def _start_post(self, webhook: Webhook, update: Update, key: tuple[str, int]) -> None:
        self._lines[key].busy = True
        post = asyncio.create_task(self._post(webhook, update, key), name=f"webhook-{update.update_id}")
        self._posts.add(post)
        post.add_done_callback(self._posts.discard)

    async def _post(self, webhook: Webhook, update: Update, key: tuple[str, int]) -> None:
        problem = await self._try(webhook, update)
        line = self._lines.pop(key, _Line())
        if problem is None:
            self._backend.state.remove_update(update.update_id)
        elif webhook.url == self.webhook.url:
            self._lines[key] = self._put_off(line, problem)
        self._backend.updates_changed.set()

    async def _try(self, webhook: Webhook, update: Update) -> str | None:
        """None when any 2xx came back, else the sentence for getWebhookInfo."""
        assert self._http is not None  # Made in `start`.
        headers = {"X-Telegram-Bot-Api-Secret-Token": webhook.secret_token} if webhook.secret_token else {}
        try:
            async with self._http.post(webhook.url, json=update.as_json(), headers=headers) as answer:
                if 200 <= answer.status < 300:
                    return None
                return f"Wrong response from the webhook: {answer.status} {answer.reason}"
        except TimeoutError:
            return "Read timeout expired"
        except aiohttp.ClientConnectorError:
            return "Connection refused"
        except aiohttp.ClientError as error:
            return f"Connection closed: {type(error).__name__}"

    def _put_off(self, line: _Line, problem: str) -> _Line:
        limits, webhook = self._backend.limits, self.webhook
        webhook.last_error_date, webhook.last_error_message = int(self._backend.now()), problem
        self._backend.state.put_setting("webhook", vars(webhook))
        pause_s = min(limits.webhook_retry_first_s * 2**line.failures, limits.webhook_retry_most_s)
        return _Line(min(line.failures + 1, 16), asyncio.get_running_loop().time() + pause_s)


def _tell_of_death(loop: asyncio.Task[None]) -> None:
    if not loop.cancelled() and (error := loop.exception()) is not None:
        log.error("the loop that posts updates died", exc_info=error)


def _conflict(reason: str) -> Refused:
    return Refused(409, f"Conflict: {reason}")
