"""The audit of vpn-provisioner on a real PostgreSQL: violations are found with their examples."""

from uuid import UUID, uuid4

from shared.contracts.operations import AuditQuery
from shared.platform.db import Database
from tests.kit.access import FailingPanel, broken, confirmed, handle, job_of, work
from vpn_provisioner.audit import answer_audit
from vpn_provisioner.domain.nodes import Node
from vpn_provisioner.workers.live import LiveNode
from vpn_provisioner.workers.reconciler import Reconciler

SHORTEN = "update subscriptions set ends_at = ends_at - interval '1 hour' where person = $1"


async def test_a_changed_end_is_found(vpn: Database, node: Node, panel: FailingPanel) -> None:
    """I8: a subscription that is not the fold of its periods is found, with its person."""
    person = uuid4()
    await handle(vpn, confirmed(person), confirmed(uuid4()))
    await Reconciler(vpn, LiveNode(node, panel)).reconcile()
    await work(vpn, node, panel)
    await vpn.execute(SHORTEN, person)
    found = await broken(vpn)
    assert found["every subscription is the fold of its periods, by booking time"] == (str(person),)
    assert found["every node of its group has the job of a live subscription"] == (
        f"{person} on one",
    )


async def test_the_audit_counts_for_other_owners(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    await handle(vpn, confirmed(uuid4()), confirmed(uuid4()))
    await work(vpn, node, panel)
    await handle(vpn, confirmed(UUID(int=1)))
    audit = await answer_audit(AuditQuery.of("vpn")(), vpn)
    assert audit.counts == {"periods": 3, "orders_granted": 2, "live": 3}
    assert (await job_of(vpn, UUID(int=1), node))["state"] == "waiting"
