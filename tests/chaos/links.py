"""Row 20: the cables between the services and what they stand on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from shared.owners import OWNERS
from shared.roles import role
from tests.chaos.shop import Shop
from tests.chaos.trial import Trial
from tests.kit.proxy import Cut, Proxy
from turnpike_local.ports import LOOPBACK

Link = tuple[str, str]
Links = dict[Link, Proxy]

CUT_S, CUT_SHORT_S = 60.0, 5.0
WAVES_AT_ONCE = 3
PER_S = 4.0
APART = 5  # How far in the list the two links of one wave are: no link is in two waves at once.


async def links_cut(trial: Trial) -> None:
    """20 (W-07): each link goes silent for a while, and is severed for a while; then all drains.

    In waves of two links, of which three overlap. The short form cuts each link once, half of them so and half of
    them so.
    """
    shop = trial.shop
    async with through_proxies(shop) as links, shop.kept():
        names = list(links)
        waves = [(names[place], names[(place + APART) % len(names)]) for place in range(len(names))]
        if trial.short:
            waves = waves[:APART]
        cut_s = CUT_SHORT_S if trial.short else CUT_S
        every_s = cut_s / WAVES_AT_ONCE
        seconds = every_s * (len(waves) - 1) + cut_s
        wanted = await trial.town.orders(trial.size(int(PER_S * seconds), 150))
        paying = asyncio.create_task(trial.pay(wanted, len(wanted) / seconds))

        carried_before: dict[Link, int] = {}

        async def come(wave: int) -> None:
            silent, severed = waves[wave]
            await asyncio.sleep(every_s * wave)
            links[silent].cut("silent")
            links[severed].cut("severed")
            if ("notifier", "PostgreSQL") in (silent, severed):
                trial.notifier_interrupted()
            trial.tell(f"{silent} is silent, {severed} is severed")
            await asyncio.sleep(cut_s)
            for name in (silent, severed):
                carried_before[name] = links[name].carried_bytes
                links[name].mend()
            _hold_met(trial, links, silent, "silent")
            _hold_met(trial, links, severed, "severed")

        await asyncio.gather(paying, *(come(wave) for wave in range(len(waves))))
        cut = ", ".join(f"{owner}-{kind}" for owner, kind in links)
        trial.faults.append(f"{len(waves)} times two of {len(links)} links cut for {cut_s:g} s ({cut})")
        trial.figures.append(f"{sum(link.met.total() for link in links.values())} connections met a cut")
        trial.expect(f"no service dies of it: {shop.deaths}", not shop.deaths)
        await trial.rests("what was cut off", 120)  # Here, and not once everybody has begun again.
        await trial.counts("when all links are whole again")
        for name, link in links.items():
            before, after = carried_before[name], link.carried_bytes
            trial.expect(f"{name} carries before its cut and after it: {before} and {after} bytes", 0 < before < after)


def _hold_met(trial: Trial, links: Links, name: Link, how: Cut) -> None:
    """Each link is cut once so: a cut that met nobody says that its service found a way past it."""
    trial.expect(f"{name} was in use when it was {how}", links[name].met[how] > 0)


@asynccontextmanager
async def through_proxies(shop: Shop) -> AsyncIterator[Links]:
    """Every service is started again with a link of its own to NATS and one to PostgreSQL; afterwards without."""
    async with AsyncExitStack() as open_links:
        links: Links = {}
        for owner in OWNERS:
            for kind, port in (("NATS", shop.broker.port), ("PostgreSQL", shop.postgres.port)):
                links[owner, kind] = await open_links.enter_async_context(Proxy(port))
        await asyncio.gather(*(_start(shop, owner, links) for owner in OWNERS))
        try:
            yield links
        finally:
            await asyncio.gather(*(shop.start(owner) for owner in OWNERS))


async def _start(shop: Shop, owner: str, links: Links) -> None:
    nats = _through(links[owner, "NATS"], shop.broker.url)
    dsn = _through(links[owner, "PostgreSQL"], shop.postgres.dsn(role(owner, "app")))
    await shop.start(owner, **{"TURNPIKE_NATS_URL": nats, f"TURNPIKE_{owner.upper()}_DSN": dsn})


def _through(link: Proxy, url: str) -> str:
    """The same address with the link's port."""
    server, port = f"{LOOPBACK}:{link.target_port}", f"{LOOPBACK}:{link.port}"
    assert url.count(server) == 1, "the address has another form: its service would go past the link"
    return url.replace(server, port)
