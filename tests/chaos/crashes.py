"""Rows 1-6: a process dies at every failpoint of every service, handler, relay and command.

W-24: nothing is left half done. N-01: a message that was sent but not marked is sent again, never
lost. R-12: the command at which a process died is repeated until it is answered, by the stored
answer if it was executed, and no order is doubled.

The points come from the lists that make up the services themselves. A new handler, owner or
command is covered without a change here, and a new step that no row names fails a test.
"""

import asyncio
from functools import partial
from math import ceil

from shared.platform.failpoints import STATUS
from tests.chaos.points import STEPS_OF_ROW, Point, points_of, sampled
from tests.chaos.trial import Trial, first_few
from tests.chaos.triggers import Triggers
from turnpike_local.processes import ending

DIES_WITHIN_S = 180.0
PER_S = 4.0
LIMIT_S = 2.0
LIMIT_RESTARTS = 1.5
SLOWEST = 5
"""A machine that others use may stand still for seconds, and one of thirty deaths meets it."""
PUBLISHERS, SUBSCRIBERS = ("bot", "payments"), ("referrals", "vpn", "notifier")

NOT_ONCE = """
select count(*)
from payments.orders o
left join (
  select answer ->> 'order' as order_id, count(distinct answer ->> 'invoice') as opened
  from payments.commands
  where topic = 'payments.open_invoice' and outcome = 'done'
  group by answer ->> 'order'
) c on c.order_id = o.id::text
where (
    select count(*)
    from payments.commands p
    where p.topic = 'payments.place_order' and p.id = o.id and p.outcome = 'done'
  ) <> 1
  or (select count(*) from payments.invoices i where i.order_id = o.id) <> coalesce(c.opened, 0)
"""


async def die_at_each_step(trial: Trial, rows: str) -> None:
    """One service after the other, with strict figures.

    In the short form a publisher and a subscriber die at the same time.
    """
    points = [point for row in rows for step in STEPS_OF_ROW[row] for point in points_of(step)]
    if trial.short:
        points = sampled(points)
    over = asyncio.Event()
    paying = asyncio.create_task(_pay_until(trial, over))
    triggers = Triggers(trial)
    async with trial.load.background_activity():
        try:
            ordinary_s = 0.0 if trial.short else await _restart_each(trial)
            sides = (PUBLISHERS, SUBSCRIBERS) if trial.short else (PUBLISHERS + SUBSCRIBERS,)
            took_s = await asyncio.gather(
                *(_die_one_by_one(trial, points, side, triggers) for side in sides)
            )
        finally:
            over.set()
            await paying
            await triggers.stop()
    wrong = await trial.shop.fetch_value(NOT_ONCE)
    sentence = f"each order has one command, and an invoice for each opened one: {wrong} have not"
    trial.expect(sentence, wrong == 0)
    trial.faults.append(f"os._exit at {len(points)} points ({first_few(trial.killed)})")
    if ordinary_s:
        trial.figures.append(f"a restart without a fault in at most {ordinary_s:.1f} s")
    limit_s = max(LIMIT_S, LIMIT_RESTARTS * ordinary_s)
    times_s = sorted(one for side in took_s for one in side)
    nine_of_ten = times_s[: ceil(0.9 * len(times_s))]
    trial.expect_within("nine of ten resumed", nine_of_ten[-1], limit_s)
    trial.expect_within("the slowest resumed", times_s[-1], SLOWEST * limit_s)


async def _pay_until(trial: Trial, over: asyncio.Event) -> None:
    while not over.is_set():
        purchases = await trial.load.place_orders(min(len(trial.load.buyers), 300))
        while purchases and not over.is_set():
            some, purchases = purchases[:4], purchases[4:]
            await trial.pay(some, PER_S)


async def _restart_each(trial: Trial) -> float:
    """Stop and start each service once, under the load of the row; returns the longest time.

    The scale of this machine: a start is mostly imports, and they take as long as it needs.
    """
    longest_s = 0.0
    for service in PUBLISHERS + SUBSCRIBERS:
        await trial.shop.stop(service)
        took_s = await trial.shop.resumed_s(service, partial(trial.shop.start, service), 60)
        trial.report(f"{service} was restarted in {took_s:.1f} s")
        longest_s = max(longest_s, took_s)
    return longest_s


async def _die_one_by_one(
    trial: Trial, points: list[Point], services: tuple[str, ...], triggers: Triggers
) -> list[float]:
    """Each service dies at its points in turn; returns the times to resume, in seconds.

    In the short form a service starts again with its next failpoint, and resumes only after the
    last one.
    """
    times_s = []
    for service in services:
        own = [point for point in points if point.service == service]
        for place, point in enumerate(own):
            await _die(trial, point, triggers)
            if not trial.short or place == len(own) - 1:
                took_s = await trial.shop.resumed_s(service, partial(trial.shop.start, service), 60)
                trial.report(f"{service} resumed in {took_s:.1f} s")
                times_s.append(took_s)
    return times_s


async def _die(trial: Trial, point: Point, triggers: Triggers) -> None:
    mode = {"TURNPIKE_TELEGRAM_MODE": "webhook"} if point.who == "webhook" else {}
    nth = trial.random.randint(1, 2)
    child = await trial.shop.spawn(
        point.service, TURNPIKE_FAILPOINT=f"{point.step} {point.who} {nth}", **mode
    )
    triggers.begin(point)
    try:
        code = await asyncio.wait_for(child.wait(), DIES_WITHIN_S)
    except TimeoutError:
        trial.failures.append(f"{point} was not reached within {DIES_WITHIN_S:g} s")
        return
    finally:
        await triggers.end(point)
    trial.expect(f"the process died at {point}, not with {ending(code)}", code == STATUS)
    trial.killed.append(f"{point.service} {child.pid}")
    trial.report(f"{point.service} {child.pid} died at {point}")
    if point.service == "notifier":
        trial.notifier_interrupted()
