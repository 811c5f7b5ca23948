"""The one protocol of VPN panels: absolute wishes, repeatable calls, outcomes as values."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from vpn_provisioner.domain.panel import Limit, PanelError, PanelUser, Usage, Vitals, Wanted


class Panel(Protocol):
    """A VPN panel or node. Every call ends within the client's own time-outs.

    `ensure` and `remove` never raise a `PanelError`: each wish of a batch has its own outcome, in
    the order asked, so one refusal stops no other. A success was read back from the panel. The
    other calls raise.
    """

    @property
    def enforces(self) -> frozenset[Limit]:
        """The limits that the panel keeps. We keep the others, by `remove` and in the link."""

    async def ensure(self, wanted: Sequence[Wanted]) -> Sequence[PanelUser | PanelError]:
        """Make the panel hold exactly this for each person, and replace other users of that label.

        People and keys are distinct within a batch.
        """

    async def remove(self, person_ids: Sequence[UUID]) -> Sequence[PanelError | None]:
        """Remove people. None for each person that the panel does not let in afterwards.

        That includes people that it never let in.
        """

    async def read(self, person_id: UUID) -> PanelUser | None:
        """The user that the panel holds for this person."""

    def users(self) -> AsyncIterator[PanelUser]:
        """All users of the panel, ours and others, in no order."""

    async def usage(self) -> Mapping[UUID, Usage]:
        """Traffic of our people. A person who never used the key may be absent.

        Reading resets nothing.
        """

    async def vitals(self) -> Vitals:
        """Whether the panel lives, and whether it still is the one that was given its users."""

    async def close(self) -> None:
        """Release the connection. No call follows."""
