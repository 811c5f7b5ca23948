"""The balance that Crypto Pay's stand-in tells, compared with the clearing account."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from payments.commands.record_withdrawal import record_withdrawal
from payments.domain.provider import Opened
from payments.providers.cryptobot.client import Cryptobot
from payments.store import reconciliation_leases as leases
from payments.store import reconciliations
from payments.workers.reconciling import Reconciler
from shared.contracts.payments import ReconciliationCounts
from shared.contracts.payments_acts import RecordWithdrawal, WithdrawalRecorded
from shared.messaging.idempotency import execute
from shared.platform.db import Database
from tests.kit import cryptopay
from tests.kit.cryptopay import TOKEN, call
from tests.kit.operators import by_operator
from tests.kit.payments import placed
from tests.kit.providers import asked_by, started
from turnpike_local.cryptopay import CryptoPay, CryptoPayClient

pytestmark = pytest.mark.usefixtures("invariants_hold")

ALICE = 7_000_000_001


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[CryptoPay]:
    """By the real clock: an older window is not compared."""
    async with CryptoPay(tmp_path, TOKEN, limits=cryptopay.FAST) as provider:
        yield provider


async def compared(running: CryptoPay, database: Database) -> ReconciliationCounts:
    """The differences of a run over the last hour."""
    until = datetime.now(UTC) + timedelta(seconds=1)
    async with started(Cryptobot(TOKEN, running.url)) as provider:
        await leases.enlist(provider.name, database)
        async with database.transaction() as tx:
            asked = await reconciliations.ask(
                uuid4(), provider.name, until - timedelta(hours=1), until, tx
            )
        while await Reconciler(database, provider).walk(asyncio.Event()):
            pass
        run = await reconciliations.run(asked.run, database)
    assert run is not None
    assert (run.state, run.reason) == ("done", None)
    return run.counts


async def test_a_withdrawal_is_found_and_booked(payments_db: Database, running: CryptoPay) -> None:
    """R-118, I11: nothing is booked until the owner says that it was a withdrawal."""
    order = await placed(uuid4(), payments_db)
    async with (
        CryptoPayClient(running.url) as owner,
        started(Cryptobot(TOKEN, running.url)) as provider,
    ):
        asked = asked_by("crypto", datetime.now(UTC), payload=order.payload)
        opened = await provider.open(asked)
        assert isinstance(opened, Opened), opened
        await owner.pay(int(opened.reference), "USDT")
        await owner.allow(transfers=True)
        await owner.set_rate("USDT", "1")
        await owner.add_person(ALICE)
    counts = await compared(running, payments_db)
    assert (counts.missing_here, counts.balance) == (1, 0)
    sent = {"user_id": ALICE, "asset": "USDT", "amount": "1.05", "spend_id": "w"}
    await call(running, "transfer", **sent)
    assert (await compared(running, payments_db)).balance == 1
    assert (await compared(running, payments_db)).balance == 1, "a report books nothing"
    act = RecordWithdrawal(
        **by_operator(), acquirer="cryptobot", currency="USDT", amount_minor=1_050_000_000
    )
    assert isinstance(await execute(payments_db, act, record_withdrawal), WithdrawalRecorded)
    assert (await compared(running, payments_db)).balance == 0
