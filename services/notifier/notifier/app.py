"""The wiring of notifier: its subscriptions, queries and loops."""

from functools import partial

from notifier.audit import KINDS, answer_audit
from notifier.queries import answer_deliveries
from notifier.settings import Settings
from notifier.store.deliveries import DROP_OLD_DELIVERIES
from notifier.store.waits import WAITS
from notifier.subscribers import (
    notifier_follows_people,
    notifier_notifies_confirmed,
    notifier_notifies_ended,
    notifier_notifies_expiring,
    notifier_notifies_granted,
    notifier_notifies_refunded,
    notifier_notifies_registered,
    notifier_notifies_rewards,
)
from notifier.telegram import Telegram
from notifier.ticks import GAUGES_EVERY_S, set_gauges
from notifier.workers.dispatcher import Dispatcher
from shared.contracts.notifier import DeliveriesQuery
from shared.platform.settings import read_settings
from shared.service import Service


def build(settings: Settings | None = None) -> Service:
    settings = settings or read_settings(Settings)
    service = Service("notifier", settings)
    telegram = Telegram(settings.bot_token.get_secret_value(), settings.telegram_api_url)
    dispatcher = Dispatcher(service.database, service.bus, telegram, per_s=settings.messages_per_s)
    service.subscribes("notifier_notifies_confirmed", notifier_notifies_confirmed)
    service.subscribes("notifier_notifies_refunded", notifier_notifies_refunded)
    service.subscribes("notifier_notifies_granted", notifier_notifies_granted)
    service.subscribes("notifier_notifies_ended", notifier_notifies_ended)
    service.subscribes("notifier_notifies_expiring", notifier_notifies_expiring)
    service.subscribes("notifier_notifies_registered", notifier_notifies_registered)
    service.subscribes("notifier_notifies_rewards", notifier_notifies_rewards)
    service.subscribes("notifier_follows_people", notifier_follows_people)
    service.answers(DeliveriesQuery, answer_deliveries)
    service.audits(answer_audit, KINDS)
    service.bounds(WAITS)
    service.prunes(DROP_OLD_DELIVERIES)
    service.loops("dispatcher", dispatcher.run)
    service.ticks("delivery_gauges", GAUGES_EVERY_S, partial(set_gauges, service.database))
    service.opens(telegram.open)
    service.closes(telegram.close)
    return service
