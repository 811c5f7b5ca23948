"""The catalogue of all messages, and as an AsyncAPI document: see `make catalogue`."""

import json
import sys
from typing import Any

from pydantic import BaseModel

from shared.contracts import (
    acts,
    bot,
    notifier,
    operations,
    payments,
    payments_acts,
    payments_refunds,
    referrals,
    vpn,
)
from shared.contracts.message import Command, Event, Query
from shared.contracts.operations import PerOwner
from shared.contracts.owners import OWNERS, SERVICE_NAMES
from shared.contracts.streams import SUBSCRIPTIONS, stream_of

EVENTS: tuple[type[Event], ...] = (
    *bot.EVENTS,
    *payments.EVENTS,
    *referrals.EVENTS,
    *vpn.EVENTS,
    *notifier.EVENTS,
)


def _of_each(*messages: type[PerOwner]) -> tuple[type[Any], ...]:
    return tuple(one for message in messages for one in message.by_owner.values())


QUERIES: tuple[type[Query[Any]], ...] = (
    bot.RecipientQuery,
    bot.StarRefundQuery,
    payments.PlansQuery,
    payments.CheckoutQuery,
    payments.BalanceQuery,
    payments.RestQuery,
    payments.ReceiptsQuery,
    payments.ReceiptEmailQuery,
    payments.TrialBalanceQuery,
    payments.InvoiceQuery,
    referrals.InvitationsQuery,
    vpn.AccessQuery,
    vpn.OutlookQuery,
    vpn.KeyQuery,
    *_of_each(
        operations.AuditQuery,
        operations.HourlyChecksumsQuery,
        operations.PublishedIdsQuery,
    ),
)

OPERATOR_QUERIES: tuple[type[Query[Any]], ...] = (
    *_of_each(operations.DeadLettersQuery, operations.DeadLetterQuery),
    vpn.DeadJobsQuery,
    bot.PersonQuery,
    bot.ReportsQuery,
    bot.OperatorQuery,
    bot.OperatorsQuery,
    payments.PaymentQuery,
    payments.PaymentsQuery,
    payments.ReconciliationsQuery,
    payments.ReconciliationQuery,
    payments_acts.CatalogueQuery,
    payments_acts.ParkedQuery,
    payments_acts.AccountDayQuery,
    payments_refunds.RefundsQuery,
    referrals.RewardsQuery,
    vpn.GrantQuery,
    notifier.DeliveriesQuery,
    *_of_each(
        operations.EventsQuery,
        operations.KeysQuery,
        operations.MissingKeysQuery,
        operations.StatusQuery,
        acts.ActsQuery,
    ),
)

COMMANDS: tuple[type[Command[Any]], ...] = (
    payments.PlaceOrder,
    payments.OpenInvoice,
    payments.ForgetMethod,
    payments.PayFromBalance,
    payments.SetReceiptEmail,
    payments.Reconcile,
    *_of_each(operations.ReplayDeadLetter, operations.Republish),
    vpn.ReplayJobs,
    bot.SetOperator,
    bot.RefundStars,
    payments_acts.AdjustBalance,
    payments_acts.RecordWithdrawal,
    payments_acts.SetPrice,
    payments_acts.SetPlan,
    payments_acts.SetRate,
    payments_acts.SetWay,
    payments_acts.ResolveParked,
    payments_refunds.RefundPayment,
    payments_refunds.ResolveRefund,
)


Request = type[Query[Any]] | type[Command[Any]]
Message = type[Event] | Request


def document() -> dict[str, Any]:
    """Every subject, its publisher and its subscribers, and the schema of every message."""
    channels: dict[str, Any] = {}
    actions: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for event in EVENTS:
        owner = owner_of(event)
        channels[event.topic] = _channel(event, schemas)
        summary = f"{SERVICE_NAMES[owner]} publishes to the stream {stream_of(owner)}"
        actions[f"publish {event.topic}"] = _operation("send", event.topic, summary)
    for one in SUBSCRIPTIONS:
        summary = f"{SERVICE_NAMES[one.service]} subscribes since {one.since}"
        actions[one.handler] = _operation("receive", one.event.topic, summary)
    requests: list[Request] = [*QUERIES, *OPERATOR_QUERIES, *COMMANDS]
    for request in requests:
        channels[request.subject()] = _channel(request, schemas)
        _add_schema(request.answer, schemas)
        summary = f"{SERVICE_NAMES[owner_of(request)]} answers {request.answer.__name__}"
        actions[request.subject()] = _operation("receive", request.subject(), summary)
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Turnpike",
            "version": "1",
            "description": "Messages between the services over NATS: "
            "events (evt), queries (qry), commands (cmd).",
        },
        "channels": channels,
        "operations": actions,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def owner_of(message: Message) -> str:
    owner = message.topic.split(".")[0]
    assert owner in OWNERS, f"{message.__name__} has no owner"
    return owner


def _channel(message: Message, schemas: dict[str, Any]) -> dict[str, Any]:
    name = _add_schema(message, schemas)
    payload = {"$ref": f"#/components/schemas/{name}"}
    description = " ".join((message.__doc__ or "").split())
    return {
        "address": message.subject(),
        "description": description,
        "messages": {name: {"name": name, "contentType": "application/json", "payload": payload}},
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
    }


def _add_schema(model: type[BaseModel], schemas: dict[str, Any]) -> str:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema
    return model.__name__


def text() -> str:
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
