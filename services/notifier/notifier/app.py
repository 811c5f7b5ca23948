"""The table of contents of notifier: what it hears, answers and does."""

from functools import partial

from notifier.answers import answer_deliveries
from notifier.audit import KINDS, answer_audit
from notifier.courier import Courier
from notifier.settings import Settings
from notifier.subscribers import (
    notifier_follows_people,
    notifier_tells_confirmed,
    notifier_tells_ended,
    notifier_tells_granted,
    notifier_tells_registered,
    notifier_tells_rewards,
)
from notifier.telegram import Telegram
from notifier.ticks import GAUGES_EVERY_S, set_gauges
from shared.inspection import AskDeliveries
from shared.service import Service
from shared.settings import read_settings


def build(settings: Settings | None = None) -> Service:
    settings = settings or read_settings(Settings)
    service = Service("notifier", settings)
    telegram = Telegram(settings.bot_token.get_secret_value(), settings.telegram_api_url)
    courier = Courier(service.database, service.bus, telegram, per_s=settings.messages_per_s)
    service.hears("notifier_tells_confirmed", notifier_tells_confirmed)
    service.hears("notifier_tells_granted", notifier_tells_granted)
    service.hears("notifier_tells_ended", notifier_tells_ended)
    service.hears("notifier_tells_registered", notifier_tells_registered)
    service.hears("notifier_tells_rewards", notifier_tells_rewards)
    service.hears("notifier_follows_people", notifier_follows_people)
    service.answers(AskDeliveries, answer_deliveries)
    service.audits(answer_audit, KINDS)
    service.loops("courier", courier.run)
    service.ticks("delivery_gauges", GAUGES_EVERY_S, partial(set_gauges, service.database))
    service.opens(telegram.open)
    service.closes(telegram.close)
    return service
