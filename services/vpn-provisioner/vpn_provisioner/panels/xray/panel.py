"""One inbound of a plain Xray node as a panel."""

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from typing import TypeVar
from uuid import UUID, uuid4

from vpn_provisioner.domain.panel import (
    Limit,
    PanelError,
    PanelRefused,
    PanelUnavailable,
    PanelUser,
    Usage,
    Vitals,
    Wanted,
    agrees,
    label_of,
)
from vpn_provisioner.panels.xray.client import CALL_TIMEOUT_S, XrayClient
from vpn_provisioner.panels.xray.messages import (
    Change,
    adding,
    by_label,
    incarnation_from,
    removing,
    sharing_keys,
    usage_from,
    user_from,
    user_with,
)

CALLS_AT_ONCE = 64

# A user of ours with a random key that nobody gets. It is lost together with the node's users, so
# its key names the incarnation. The node's uptime is no such sign: it has grown again by the next
# request, and comparing it needs two clocks.
_MARK = "turnpike-incarnation"

# Reading one user takes 0.5 ms, all of 10 000 takes 25 ms (1.3 MB), measured on Xray 26.10.
_LIST_ABOVE_USERS = 32
# Reading 500 000 users takes seconds of the processor.
_READ_AT_ONCE = 500

_A = TypeVar("_A")
_B = TypeVar("_B")


class XrayPanel:
    """Made inside a running event loop. One connection carries all calls.

    Within a batch one key belongs to one person; across batches the caller must keep that. Xray
    accepts a second user with the same key, and removing either ends the key for both: `remove`
    lets the other user in again.
    """

    enforces: frozenset[Limit] = frozenset()

    def __init__(
        self,
        api: str,
        inbound: str,
        *,
        flow: str,
        call_timeout_s: float = CALL_TIMEOUT_S,
        calls_at_once: int = CALLS_AT_ONCE,
    ) -> None:
        """`api` is host:port of the node's gRPC API, `inbound` the tag.

        `flow` is the flow of the link's template.
        """
        self._flow = flow
        self._calls_at_once = calls_at_once
        self._client = XrayClient(api, inbound, call_timeout_s=call_timeout_s)

    async def ensure(self, wanted: Sequence[Wanted]) -> Sequence[PanelUser | PanelError]:
        assert len({w.label for w in wanted}) == len({w.key for w in wanted}) == len(wanted), (
            "one person, one key"
        )
        try:
            held = await self._held([w.label for w in wanted])
            missing = [w for w in wanted if not agrees(held.get(w.label), w, self.enforces)]
            failures = await self._write(
                missing, replaced=[w.label for w in missing if w.label in held]
            )
            held |= await self._held([w.label for w in missing])
        except PanelError as error:
            return [error] * len(wanted)
        return [self._outcome(w, held.get(w.label), failures.get(w.label)) for w in wanted]

    async def remove(self, person_ids: Sequence[UUID]) -> Sequence[PanelError | None]:
        labels = [label_of(person_id) for person_id in person_ids]
        try:
            failures = await self._take_out(labels)
            left = await self._held(labels)
        except PanelError as error:
            return [error] * len(labels)
        return [
            failures.get(label, _unlike_written()) if label in left else None for label in labels
        ]

    async def read(self, person_id: UUID) -> PanelUser | None:
        return (await self._held([label_of(person_id)])).get(label_of(person_id))

    async def users(self) -> AsyncIterator[PanelUser]:
        listed = await self._client.everybody()
        for number, (label, user) in enumerate(listed.items()):
            if number % _READ_AT_ONCE == 0:  # Leases are renewed meanwhile, and payments booked.
                await asyncio.sleep(0)
            if label != _MARK:
                yield user_from(user, self._flow)

    async def usage(self) -> Mapping[UUID, Usage]:
        return usage_from(await self._client.stats_of_users())

    async def vitals(self) -> Vitals:
        """The same as the protocol's. A node without a mark is new to us and is given one."""
        if (mark := await self._mark()) is None:
            # A restarted node may have been given another configuration.
            await self._client.check_inbound(again=True)
            await self._client.change(adding(user_with(_MARK, uuid4(), self._flow)))
            mark = await self._mark()  # Another replica's, if that was quicker.
        if mark is None:
            raise _unlike_written()
        return Vitals(incarnation_from(mark.key), await self._client.count_users() - 1)

    async def close(self) -> None:
        await self._client.close()

    async def _mark(self) -> PanelUser | None:
        return (await self._held([_MARK])).get(_MARK)

    async def _write(
        self, missing: Sequence[Wanted], *, replaced: Collection[str]
    ) -> Mapping[str, PanelError]:
        """Add users after removing those that have their labels; returns the failures by label."""
        removed = await self._take_out(replaced)
        return removed | await self._change_all(
            adding(user_with(w.label, w.key, self._flow)) for w in missing
        )

    async def _take_out(self, labels: Collection[str]) -> dict[str, PanelError]:
        """Remove users and let in again users with the same keys; returns the failures by label.

        The users with the same keys are removed as well. If this process dies in between, they are
        seen to be missing and are put back. Left in the list, they would seem well and have no
        access.
        """
        if not labels:
            return {}
        everybody = await self._client.everybody()
        leaving = [label for label in labels if label in everybody]
        sharers = sharing_keys(everybody, leaving)
        failures = await self._change_all(
            removing(label) for label in (*leaving, *(user.email for user in sharers))
        )
        if lost := await self._change_all(adding(user) for user in sharers):
            raise next(iter(lost.values()))
        return failures

    async def _held(self, labels: Sequence[str]) -> dict[str, PanelUser]:
        """The users that the node holds, of these labels."""
        if len(labels) > _LIST_ABOVE_USERS:
            everybody = await self._client.everybody()
            found = {label: everybody[label] for label in labels if label in everybody}
        else:
            answers = await self._each(self._client.users, labels)
            found = by_label(user for users in answers for user in users)
        return {label: user_from(user, self._flow) for label, user in found.items()}

    async def _change_all(self, changes: Iterable[Change]) -> dict[str, PanelError]:
        """Make changes, pipelined; returns the failures by label.

        Once the node is unavailable, the remaining changes are not tried.
        """
        away: PanelUnavailable | None = None

        async def attempt(change: Change) -> PanelError | None:
            nonlocal away
            try:
                if away is None:
                    await self._client.change(change)
            except PanelUnavailable as error:
                away = error
            except PanelRefused as refusal:
                return refusal
            return away

        if not (changes := list(changes)):
            return {}
        await self._client.check_inbound()
        outcomes = await self._each(attempt, changes)
        return {
            change.label: failure
            for change, failure in zip(changes, outcomes, strict=True)
            if failure is not None
        }

    async def _each(self, call: Callable[[_A], Awaitable[_B]], values: Sequence[_A]) -> list[_B]:
        """Call for every value, `calls_at_once` at a time; returns in order.

        The first exception ends all.
        """
        answers: dict[int, _B] = {}
        waiting = iter(enumerate(values))

        async def work() -> None:
            for index, value in waiting:
                answers[index] = await call(value)

        workers = [
            asyncio.create_task(work()) for _ in range(min(self._calls_at_once, len(values)))
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        return [answers[index] for index in range(len(values))]

    def _outcome(
        self, wanted: Wanted, held: PanelUser | None, failure: PanelError | None
    ) -> PanelUser | PanelError:
        """The user that was read back decides: a call that timed out may have done its work."""
        if held is not None and agrees(held, wanted, self.enforces):
            return held
        return failure or _unlike_written()


def _unlike_written() -> PanelUnavailable:
    return PanelUnavailable("the node holds something else than was just written")
