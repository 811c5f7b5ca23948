"""The wiring of payments: its subscriptions, queries, commands, providers and ticks."""

from collections.abc import Sequence
from functools import partial

from payments.audit import answer_audit
from payments.commands.adjust_balance import adjust_balance
from payments.commands.forget_method import forget_method
from payments.commands.open_invoice import open_invoice
from payments.commands.pay_from_balance import pay_from_balance
from payments.commands.place_order import place_order
from payments.commands.reconcile import reconcile
from payments.commands.record_withdrawal import record_withdrawal
from payments.commands.refund_payment import refund_payment, resolve_refund
from payments.commands.resolve_parked import resolve_parked
from payments.commands.set_catalogue import set_plan, set_price, set_rate, set_way
from payments.commands.set_receipt_email import set_receipt_email
from payments.domain.checkout import CARD_ACQUIRER, TELEGRAM_CARD, WITHOUT_KEYS
from payments.domain.fiscal import Terms
from payments.domain.outgoing import TELEGRAM
from payments.domain.provider import Returning
from payments.operator_queries import (
    answer_account_day,
    answer_catalogue,
    answer_parked,
    answer_refunds,
)
from payments.providers import providers_from
from payments.providers.protocol import Provider
from payments.queries import (
    answer_balance,
    answer_checkout,
    answer_invoice,
    answer_payment,
    answer_payments,
    answer_plans,
    answer_receipt_email,
    answer_receipts,
    answer_reconciliation,
    answer_reconciliations,
    answer_rest,
    answer_trial_balance,
)
from payments.settings import Settings
from payments.store import debts, fiscal
from payments.store import reconciliation_leases as leases
from payments.store.keys import KINDS
from payments.store.notices import DROP_OLD
from payments.store.outgoing import DROP_OLD as DROP_OLD_REFUNDS
from payments.store.reconciliations import DROP_OLD_DIFFERENCES, DROP_OLD_RUNS
from payments.store.rewards import DROP_OLD_HOURS
from payments.store.saved_methods import DROP_UNUSED
from payments.store.waits import WAITS
from payments.subscribers import (
    payments_books_reversals,
    payments_books_rewards,
    payments_confirms_reported,
    payments_records_refunds,
)
from payments.ticks import (
    CLOSE_EVERY_S,
    COUNT_EVERY_S,
    END_ORDERS_EVERY_S,
    MEASURE_EVERY_S,
    MEET_REFUNDS_EVERY_S,
    RESTORE_EVERY_S,
    close_ledger,
    count_fiscal_receipts,
    count_outgoing,
    count_ways_in,
    end_orders,
    measure_reconciliations,
    meet_refunds,
    restore_access,
)
from payments.webhooks import ProviderWebhook
from payments.workers.checking import report_findings
from payments.workers.noticing import Notices
from payments.workers.opening import Opener
from payments.workers.reading import Reader
from payments.workers.reconciling import Reconciler
from payments.workers.refunding import AtProvider, AtTelegram, Refunder, receipt_for
from payments.workers.registering import Registrar
from payments.workers.watching import OpenInvoices
from shared.contracts.payments import (
    BalanceQuery,
    CheckoutQuery,
    ForgetMethod,
    InvoiceQuery,
    OpenInvoice,
    PayFromBalance,
    PaymentQuery,
    PaymentsQuery,
    PlaceOrder,
    PlansQuery,
    ReceiptEmailQuery,
    ReceiptsQuery,
    Reconcile,
    ReconciliationQuery,
    ReconciliationsQuery,
    RestQuery,
    SetReceiptEmail,
    TrialBalanceQuery,
)
from shared.contracts.payments_acts import (
    AccountDayQuery,
    AdjustBalance,
    CatalogueQuery,
    ParkedQuery,
    RecordWithdrawal,
    ResolveParked,
    SetPlan,
    SetPrice,
    SetRate,
    SetWay,
)
from shared.contracts.payments_refunds import RefundPayment, RefundsQuery, ResolveRefund
from shared.platform.loops import Bell
from shared.platform.settings import read_settings
from shared.service import Service

REGISTRAR = "yookassa"
"""The provider that registers receipts for the tax office."""


def build(settings: Settings | None = None, providers: Sequence[Provider] | None = None) -> Service:
    """The whole service, not yet running.

    Without `settings` those of the environment; without `providers` those that they name.
    """
    settings = settings or read_settings(Settings)
    service = Service("payments", settings)
    providers = providers_from(settings) if providers is None else providers
    names, asked = frozenset(provider.name for provider in providers), Bell()
    terms = settings.receipt_terms
    receipts = {REGISTRAR: terms} if terms and REGISTRAR in names else {}
    takes_cards = settings.provider_token is not None and CARD_ACQUIRER in names
    telegram = WITHOUT_KEYS | ({TELEGRAM_CARD} if takes_cards else frozenset())
    saves = settings.saving & names
    asks_email = settings.receipt_ask_email and bool(receipts)
    asks = partial(
        open_invoice,
        providers=names,
        telegram=telegram,
        ring=asked.ring,
        receipts=receipts,
        asks_email=asks_email,
        saves=saves,
    )
    service.subscribes("payments_confirms_reported", payments_confirms_reported)
    service.subscribes("payments_records_refunds", payments_records_refunds)
    service.subscribes("payments_books_rewards", payments_books_rewards)
    service.subscribes("payments_books_reversals", payments_books_reversals)
    offers = partial(answer_plans, providers=names, telegram=telegram, saves=saves)
    service.answers(PlansQuery, offers)
    service.answers(CheckoutQuery, answer_checkout)
    service.answers(InvoiceQuery, partial(answer_invoice, saves=saves))
    service.answers(BalanceQuery, partial(answer_balance, asks_email=asks_email))
    rest = partial(answer_rest, providers=names, telegram=telegram, saves=saves)
    service.answers(RestQuery, rest)
    service.answers(ReceiptsQuery, answer_receipts)
    service.answers(ReceiptEmailQuery, answer_receipt_email)
    service.answers(TrialBalanceQuery, answer_trial_balance)
    service.answers(PaymentQuery, answer_payment)
    service.answers(PaymentsQuery, answer_payments)
    service.answers(ReconciliationsQuery, answer_reconciliations)
    service.answers(ReconciliationQuery, answer_reconciliation)
    service.audits(answer_audit, KINDS)
    service.executes(PlaceOrder, place_order)
    service.executes(OpenInvoice, asks)
    service.executes(ForgetMethod, forget_method)
    service.executes(PayFromBalance, pay_from_balance)
    service.executes(SetReceiptEmail, set_receipt_email)
    service.executes(Reconcile, partial(reconcile, providers=names))
    service.answers(CatalogueQuery, answer_catalogue)
    service.answers(ParkedQuery, answer_parked)
    service.answers(AccountDayQuery, answer_account_day)
    service.executes(AdjustBalance, adjust_balance)
    service.executes(RecordWithdrawal, record_withdrawal)
    service.executes(SetPrice, set_price)
    service.executes(SetPlan, set_plan)
    service.executes(SetRate, set_rate)
    service.executes(SetWay, set_way)
    service.executes(ResolveParked, resolve_parked)
    ways_out, wanted = {**TELEGRAM, **{one.name: one.returning for one in providers}}, Bell()
    service.answers(RefundsQuery, answer_refunds)
    refund = partial(refund_payment, ways_out=ways_out, ring=wanted.ring)
    service.executes(RefundPayment, refund)
    service.executes(ResolveRefund, resolve_refund)
    count = partial(count_outgoing, sorted(ways_out), service.database)
    service.ticks("count_outgoing", COUNT_EVERY_S, count)
    service.ticks("end_orders", END_ORDERS_EVERY_S, partial(end_orders, service.database))
    service.ticks("meet_refunds", MEET_REFUNDS_EVERY_S, partial(meet_refunds, service.database))
    service.prunes(DROP_OLD_HOURS, DROP_OLD, DROP_OLD_DIFFERENCES, DROP_OLD_RUNS, DROP_OLD_REFUNDS)
    service.prunes(fiscal.DROP_UNPAID, fiscal.DROP_OLD, DROP_UNUSED, debts.DROP_OLD)
    service.ticks("restore_access", RESTORE_EVERY_S, partial(restore_access, service.database))
    service.ticks("payments_closes_ledger", CLOSE_EVERY_S, partial(close_ledger, service.database))
    service.bounds((*WAITS, *leases.WAITS))
    stars = Refunder(AtTelegram(service.bus), service.database, wanted)
    service.loops("refund_telegram_stars", stars.run)
    for provider in providers:
        _receive(provider, asked, service, settings)
        if isinstance(provider.returning, Returning):
            _return(provider, provider.returning, wanted, service, receipts.get(provider.name))
        if provider.name in receipts:
            _register(provider, receipts[provider.name], service)
    if names:
        count = partial(count_ways_in, sorted(names), service.database)
        service.ticks("count_ways_in", COUNT_EVERY_S, count)
        measure = partial(measure_reconciliations, sorted(names), service.database)
        service.ticks("measure_reconciliations", MEASURE_EVERY_S, measure)
    return service


def _receive(provider: Provider, asked: Bell, service: Service, settings: Settings) -> None:
    """The ways in of one provider: its invoices, its webhook, and the watcher of its invoices."""
    service.opens(provider.start)
    service.closes(provider.close)
    name, database, told = provider.name, service.database, Bell()
    opener = Opener(provider, database, asked, return_url=settings.return_url)
    service.loops(f"open_{name}", opener.run)
    service.loops(f"notice_{name}", Reader(Notices(), provider, database, told).run)
    service.loops(f"watch_{name}", Reader(OpenInvoices(), provider, database, Bell()).run)
    service.loops(f"reconcile_{name}", Reconciler(database, provider).run)
    service.loops(f"check_{name}", partial(report_findings, provider))
    webhook = ProviderWebhook(provider, database, told.ring, trusted=settings.trusted_networks)
    service.routes.append((f"/webhooks/{name}", webhook))


def _return(
    provider: Provider, returning: Returning, wanted: Bell, service: Service, terms: Terms | None
) -> None:
    """The way out of one provider."""
    receipts = (
        partial(receipt_for, database=service.database, acquirer=provider.name, email=terms.email)
        if terms
        else None
    )
    way_out = AtProvider(provider, keyed=returning.keyed, receipts=receipts)
    service.loops(f"refund_{provider.name}", Refunder(way_out, service.database, wanted).run)


def _register(provider: Provider, terms: Terms, service: Service) -> None:
    """The receipts for the tax office of one provider."""
    registrar = Registrar(provider, service.database, terms.email)
    service.loops(f"register_{provider.name}", registrar.run)
    count = partial(count_fiscal_receipts, provider.name, service.database)
    service.ticks("count_fiscal_receipts", COUNT_EVERY_S, count)
