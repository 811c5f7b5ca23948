"""Transfers of Crypto Pay: off at first, once for a spend_id, and only to a person it knows."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.clock import MovedClock
from tests.kit.cryptopay import TOKEN, Answer, Json, call
from turnpike_local.cryptopay import CryptoPay, CryptoPayClient

ALICE = 7_000_000_001
WISH: Json = {"user_id": ALICE, "asset": "USDT", "amount": "5.50", "spend_id": "withdrawal-1"}


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[CryptoPay]:
    async with CryptoPay(tmp_path, TOKEN, clock=MovedClock()) as running:
        yield running


@pytest.fixture
async def owner(provider: CryptoPay) -> AsyncIterator[CryptoPayClient]:
    """Transfers are on, USDT costs a dollar, there are 30 of it, and Alice is known."""
    async with CryptoPayClient(provider.url) as client:
        await client.allow(transfers=True)
        await client.set_rate("USDT", "1")
        await client.add_to_balance("USDT", "30")
        await client.add_person(ALICE)
        yield client


async def transfer(provider: CryptoPay, **other: object) -> Answer:
    return await call(provider, "transfer", **(WISH | other))


async def available(provider: CryptoPay, asset: str = "USDT") -> str:
    balances = (await call(provider, "getBalance")).result
    return next(str(one["available"]) for one in balances if one["currency_code"] == asset)


async def listed(provider: CryptoPay, **wanted: object) -> list[Json]:
    items: list[Json] = (await call(provider, "getTransfers", **wanted)).result["items"]
    return items


async def test_a_transfer_answers_without_spend_id(
    provider: CryptoPay, owner: CryptoPayClient
) -> None:
    """Only getTransfers tells the spend_id."""
    done = (await transfer(provider, disable_send_notification=True)).result
    assert isinstance(done["transfer_id"], int)
    assert done == {
        "transfer_id": done["transfer_id"],
        "user_id": ALICE,
        "asset": "USDT",
        "amount": "5.5",
        "status": "completed",
        "completed_at": "2026-11-30T10:00:00.000Z",
    }
    assert await listed(provider, spend_id="withdrawal-1") == [done | {"spend_id": "withdrawal-1"}]
    assert await available(provider) == "24.5"


async def test_a_spend_id_moves_money_once(provider: CryptoPay, owner: CryptoPayClient) -> None:
    """A repeat is refused, with the same body and with another; the listing tells the outcome."""
    await transfer(provider)
    for other in ({}, {"amount": "7"}):
        again = await transfer(provider, **other)
        assert again.refusal == "400 SPEND_ID_ALREADY_USED"
    assert await available(provider) == "24.5"
    assert len(await listed(provider)) == 1


async def test_parallel_transfers_move_money_once(
    provider: CryptoPay, owner: CryptoPayClient
) -> None:
    answers = await asyncio.gather(*(transfer(provider) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [200] + [400] * 19
    assert await available(provider) == "24.5"


async def test_a_refused_spend_id_can_be_used(provider: CryptoPay, owner: CryptoPayClient) -> None:
    assert (await transfer(provider, amount="31")).refusal == "400 INSUFFICIENT_FUNDS"
    assert (await transfer(provider)).status == 200


async def test_transfers_are_off_at_first(provider: CryptoPay) -> None:
    assert (await transfer(provider)).refusal == "403 METHOD_DISABLED"
    async with CryptoPayClient(provider.url) as owner:
        assert (await owner.allow(transfers=True))["transfers"] is True
        assert (await owner.allow(transfers=False))["transfers"] is False
    assert (await transfer(provider)).refusal == "403 METHOD_DISABLED"


async def test_a_young_app_may_not_comment(provider: CryptoPay, owner: CryptoPayClient) -> None:
    answer = await transfer(provider, comment="Reward")
    assert answer.refusal == "400 CANNOT_ATTACH_COMMENT"
    await owner.allow(comments=True)
    assert (await transfer(provider, comment="Reward")).result["comment"] == "Reward"


@pytest.mark.parametrize(
    ("other", "refusal"),
    [
        ({"user_id": None}, "USER_ID_REQUIRED"),
        ({"user_id": "alice"}, "USER_ID_INVALID"),
        ({"user_id": 7_000_000_002}, "USER_NOT_FOUND"),
        ({"asset": None}, "ASSET_REQUIRED"),
        ({"asset": "RUB"}, "ASSET_INVALID"),
        ({"amount": None}, "AMOUNT_REQUIRED"),
        ({"amount": 5.5}, "AMOUNT_INVALID"),
        ({"amount": "0.99999999"}, "AMOUNT_TOO_SMALL"),
        ({"amount": "25000.01"}, "AMOUNT_TOO_BIG"),
        ({"amount": "30.00000001"}, "INSUFFICIENT_FUNDS"),
        ({"asset": "BTC", "amount": "0.01"}, "INSUFFICIENT_FUNDS"),
        ({"spend_id": None}, "SPEND_ID_REQUIRED"),
        ({"spend_id": "x" * 65}, "SPEND_ID_INVALID"),
        ({"spend_id": 7}, "SPEND_ID_INVALID"),
        ({"comment": "x" * 1025}, "COMMENT_INVALID"),
        ({"disable_send_notification": "no"}, "DISABLE_SEND_NOTIFICATION_INVALID"),
        ({"fiat": "RUB"}, "UNKNOWN_PARAMETER_FIAT"),
    ],
)
async def test_transfer_refuses(
    provider: CryptoPay, owner: CryptoPayClient, other: Json, refusal: str
) -> None:
    """W-73: nothing moves then."""
    assert (await transfer(provider, **other)).refusal == f"400 {refusal}"
    assert await listed(provider) == []
    assert await available(provider) == "30"


async def test_transfers_are_listed_newest_first(
    provider: CryptoPay, owner: CryptoPayClient
) -> None:
    await owner.add_to_balance("TON", "1")
    wishes = [{"asset": "USDT", "amount": "1"}, {"asset": "TON", "amount": "1"}]
    made = [
        (await transfer(provider, spend_id="ы" * 63 + str(number), **wish)).result["transfer_id"]
        for number, wish in enumerate(wishes)
    ]

    async def ids(**wanted: object) -> list[int]:
        return [one["transfer_id"] for one in await listed(provider, **wanted)]

    assert await ids() == made[::-1]
    assert await ids(offset=1, count=1) == made[:1]
    assert await ids(asset="TON") == made[1:]
    assert await ids(transfer_ids=f"{made[0]},1") == made[:1]
    assert await ids(spend_id="unknown") == []
    answer = await call(provider, "getTransfers", count=1001)
    assert answer.refusal == "400 COUNT_INVALID"
