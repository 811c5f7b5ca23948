"""The rows of a large shop: a million people, half a million buyers, three million entries.

One partner has invited 100 000 people, was rewarded 100 000 times in the last days, and has 50 000
open orders, as a script can place them.
"""

SIZES = {
    "people": 1_000_000,
    "orders": 500_000,
    # Jobs, notices, refunds, receipts for the tax office, and runs of reconciliation.
    "outside": 1_000_000,
    "rewarded": 100_000,
    # Rows of the tables that are pruned. None of them is due.
    "kept": 300_000,
    # Orders of the partner that nobody paid, and those of them that are due to expire, or to go.
    "unpaid": 50_000,
    "due": 5_000,
}

# Parts of a schema are filled at the same time: none reads the rows of another. `public.ids` holds
# the ids of each number that several tables have.
FILLED = {
    "payments": (
        """
insert into accounts (id, owner, kind, currency, balance_minor)
select public.id('wallet', n), person, 'wallet', 'RUB', 0
from (select * from public.ids where n <= {orders}) ids;
insert into accounts (id, owner, kind, currency, balance_minor)
values (public.id('earned', 1), public.id('person', 1), 'earned', 'RUB', 1490::bigint * {rewarded});
insert into accounts (id, owner, kind, currency) values
  (public.id('shop', 1), null, 'clearing:telegram_stars', 'XTR'),
  (public.id('shop', 2), null, 'exchange', 'XTR'),
  (public.id('shop', 3), null, 'exchange', 'RUB'),
  (public.id('shop', 4), null, 'revenue', 'RUB'),
  (public.id('shop', 5), null, 'rewards', 'RUB');
insert into orders (
  id, person, what, plan, months, devices, node_group, list_month_minor, price_minor,
  received_minor, state, placed_at, honoured_until, paid_at
)
select order_id, person, 'subscription', 'basic', 1, 5, 'default',
  14900, 14900, 14900, 'paid', at, at, at
from (select * from public.ids where n <= {orders}) ids
cross join lateral (select public.minutes({orders} - n)) t (at);
insert into invoices
  (id, order_id, way, acquirer, asked_minor, asked_currency, state, opened_at, expires_at)
select public.id('invoice', n), order_id, 'stars', 'telegram_stars', 99, 'XTR', 'paid', at, at
from (select * from public.ids where n <= {orders}) ids
cross join lateral (select public.minutes({orders} - n)) t (at);
insert into orders (
  id, person, what, plan, months, devices, node_group, list_month_minor, price_minor,
  received_minor, state, placed_at, honoured_until
)
select public.id('unpaid', n), public.id('person', 1), 'subscription', 'basic', 1, 5, 'default',
  14900, 14900, n % 2, case when n between {due} and {due} * 2 - 1 then 'expired' else 'open' end,
  public.minutes({unpaid} - n),
  case when n < {due} * 2 then now() - interval '40 days' else now() + interval '1 day' end
from generate_series(1, {unpaid}) n;
insert into invoices
  (id, order_id, way, acquirer, asked_minor, asked_currency, state, opened_at, expires_at)
select public.id('offered', n), public.id('unpaid', n), 'stars', 'telegram_stars', 99, 'XTR',
  case when n between {due} and {due} * 2 - 1 then 'expired' else 'open' end, at, at
from generate_series(1, {unpaid}) n
cross join lateral (select public.minutes({unpaid} - n)) t (at)
""",
        """
insert into invoice_jobs (invoice, acquirer, step, reference, due_at, tries, awaited)
select public.id('invoice', n), 'yookassa', 'watch', n::text, now() - n * interval '1 millisecond',
  case when n % 50 = 0 then 1 else 0 end, n % 2 = 0
from generate_series(1, {outside}) n;
insert into invoice_jobs (invoice, acquirer, step, due_at)
select public.id('offered', n), 'cryptobot', 'open',
  case when n <= {due} then now() - interval '1 minute' else now() + interval '1 hour' end
from generate_series(1, {unpaid}) n;
insert into fiscal_receipts
  (id, acquirer, kind, person, payment, reference, service_minor, advance_minor, rest_minor,
  item, subject, vat_code, state, made_at, due_at)
select public.id('fiscal', n), 'yookassa', 'payment', public.id('person', n), n::text, n::text, 0,
  100, case when n <= {due} then 50 else 0 end, 'VPN', 'service', 1,
  case when n <= {due} then 'registering' else 'registered' end,
  now() - n::float8 / {outside} * interval '1000 days', now() from generate_series(1, {outside}) n;
insert into saved_methods (id, name, person, acquirer, method, way, title, used_at)
select public.id('method', n), 's' || left(md5(n::text), 6), public.id('person', n), 'yookassa',
  n::text, 'card', '', now() - n * interval '1000 days' / {kept} from generate_series(1, {kept}) n;
insert into notices (acquirer, reference, kind, known, body, state, received_at)
select 'yookassa', n::text, 'payment', true, '{{}}',
  case when n <= {due} then 'waiting' else 'done' end,
  now() - case when n <= {due} then 0 else n::float8 / {outside} end * interval '29 days'
from generate_series(1, {outside}) n;
insert into outgoing_refunds
  (id, receipt, acquirer, charge, person, actor, currency, amount_minor, held_minor, state,
  requested_at, ended_at)
select public.id('outgoing', n), receipt, 'yookassa', n::text, person, 'operator:olga', 'RUB',
  14900, 0, case when n <= 20 then 'held' else 'released' end, at, case when n > 20 then at end
from (select * from public.ids where n <= {outside}) ids
cross join lateral (select now() - n * interval '390 days' / {outside}) t (at)
""",
        """
insert into refunds (
  id, receipt, acquirer, charge, reference, payer, currency, amount_minor, refunded_at, reported_at,
  state, booked_minor, value_minor, owed_minor, published_as, booked_at
)
select public.id('refund', n), receipt, 'telegram_stars', n::text, n::text, person, 'XTR', 99, at,
  at, 'booked', 99, 14900, 0, public.id('refunded', n), at
from (select * from public.ids where n between {rewarded} + 1 and {rewarded} * 2) ids
cross join lateral (select public.minutes({orders} - n)) t (at);
insert into refunded_receipts (receipt, amount_minor, returned_minor) select receipt, 99, 99
from (select * from public.ids where n between {rewarded} + 1 and {rewarded} * 2) ids;
insert into undone_orders (id, refund, order_id, undone_minor, booked_at)
select public.id('undone', n), public.id('refund', n), order_id, 14900, at
from (select * from public.ids where n between {rewarded} + 1 and {rewarded} * 2) ids
cross join lateral (select public.minutes({orders} - n)) t (at);
insert into debts (refund, person) select public.id('refund', n), public.id('person', 1 + n % 2)
from public.ids where n between {rewarded} + 1 and {rewarded} * 2;
insert into refunds (
  id, receipt, acquirer, charge, reference, currency, amount_minor, refunded_at, reported_at
)
select public.id('waiting refund', n), public.id('unknown receipt', n), 'telegram_stars',
  'unknown' || n, '', 'XTR', 99, now(), now()
from generate_series(1, 5000) n;
insert into receipts (
  id, acquirer, charge, payer, currency, amount_minor, payload, digest, paid_at, received_at
)
select receipt, 'telegram_stars', n::text, person, 'XTR', 99, '',
  n, at, at
from (select * from public.ids where n <= {orders}) ids
cross join lateral (select public.minutes({orders} - n)) t (at);
insert into bookings
  (receipt, outcome, because, order_id, invoice, value_minor, published_as, booked_at)
select receipt, 'bought', 'paid', order_id, public.id('invoice', n),
  14900, event, at
from (select * from public.ids where n <= {orders}) ids
cross join lateral (select public.minutes({orders} - n)) t (at)
""",
        """
insert into transfers (id, cause, reason, person, at)
select public.id('came', n), 'telegram_stars:' || n, 'receipt', person, at
from (select * from public.ids where n <= {orders}) ids
cross join lateral (select public.minutes({orders} - n)) t (at)
union all
select public.id('went', n), 'order:' || order_id, 'purchase',
  person, at
from (select * from public.ids where n <= {orders}) ids
cross join lateral (select public.minutes({orders} - n)) t (at)
union all
select public.id('reward', n), 'reward:' || receipt, 'reward',
  public.id('person', 1), now() - n * interval '20 days' / {rewarded}
from (select * from public.ids where n <= {rewarded}) ids;
insert into entries (transfer, account, amount_minor, currency)
select transfer, account, amount, currency
from (
  select public.id('came', n) as transfer, public.id('wallet', n) as wallet
  from generate_series(1, {orders}) n
  offset 0
) t
cross join lateral (
  values
    (public.id('shop', 1), -99, 'XTR'),
    (public.id('shop', 2), 99, 'XTR'),
    (public.id('shop', 3), -14900, 'RUB'),
    (wallet, 14900, 'RUB')
) e (account, amount, currency)
union all
select transfer, account, amount, 'RUB'
from (
  select public.id('went', n) as transfer, public.id('wallet', n) as wallet
  from generate_series(1, {orders}) n
  offset 0
) t
cross join lateral (
  values (wallet, -14900), (public.id('shop', 4), 14900)
) e (account, amount)
union all
select public.id('reward', n), account, amount, 'RUB'
from generate_series(1, {rewarded}) n
cross join (
  values (public.id('shop', 5), -1490), (public.id('earned', 1), 1490)
) e (account, amount);
insert into reward_hours (person, hour, amount_minor)
select public.id('person', 1), date_trunc('hour', now()) - n * interval '1 hour',
  1490 * {rewarded} / 480
from generate_series(1, 480) n
union all
select person, date_trunc('hour', now()) - (n % 1400) * interval '1 hour', 1490
from (select * from public.ids where n between 2 and {kept}) ids;
update ledger_closing
set closed_at = now() - interval '10 minutes',
  open_day = ((now() - interval '10 minutes') at time zone 'UTC')::date;
insert into closed_days (day, closed_at)
select open_day - n, (open_day - n + 1)::timestamp at time zone 'UTC' + interval '10 minutes'
from ledger_closing
cross join generate_series(1, 3650) n;
insert into account_days (day, account, currency, debit_minor, credit_minor, balance_minor)
select day, 'shop ' || n, 'RUB', 0, 0, 0
from closed_days
cross join generate_series(1, 20) n
""",
        """
insert into reconciliations (id, acquirer, kind, since, until, state, started_at, ended_at)
select public.id('run', n), 'yookassa', 'hourly', at - interval '3 hours', at, 'done', at, at
from generate_series(1, {outside}) n
cross join lateral (select now() - interval '2 hours' - n * interval '85 days' / {outside}) t (at);
insert into reconciliation_differences (run, acquirer, kind, reference, charge, done, found_at)
select public.id('run', 1), 'yookassa', 'foreign', n::text, n::text, 'reported',
  now() - n * interval '85 days' / {outside}
from generate_series(1, {outside}) n;
insert into reconciliation_listed (run, charge)
select public.id('run', 1 + n % 10), 'y' || n
from generate_series(1, {rewarded}) n;
insert into reconciliation_leases (acquirer) values ('yookassa');
insert into receipts (
  id, acquirer, charge, payer, currency, amount_minor, payload, digest, paid_at, received_at
)
select public.id('listed', n), 'yookassa', 'y' || n, public.id('person', n), 'RUB', 14900, '',
  n, at, at
from generate_series(1, {rewarded}) n
cross join lateral (select now() - interval '2 days' - n * interval '1 minute') t (at)
""",
        """
insert into events (id, topic, version, body, digest, recorded_at)
select event, 'payments.payment.confirmed', 1, '{{}}', n,
  now() - interval '29 days' + n * interval '29 days' / {orders}
from (select * from public.ids where n <= {orders}) ids;
insert into inbox (handler, event_id, digest, hour, handled_at)
select 'payments_confirms_reported', event, n,
  date_trunc('hour', now() - n * interval '44 days' / {orders}),
  now() - n * interval '44 days' / {orders}
from (select * from public.ids where n <= {orders}) ids;
insert into comparisons (handler, due_at) values ('payments_confirms_reported', now())
""",
        """
insert into commands (id, topic, actor, digest, request, outcome, answer, executed_at)
select order_id, 'payments.place_order', 'person', n, '{{}}', 'done', '{{}}',
  now() - n * interval '89 days' / {kept}
from (select * from public.ids where n <= {kept}) ids;
insert into dead_letters
  (handler, event_id, subject, headers, body, reason, dead_lettered_at, replayed_at)
select 'payments_confirms_reported', public.id('dead', n), 's', '{{}}', '', 'r',
  now() - interval '89 days', now() - n * interval '89 days' / {kept}
from generate_series(1, {kept}) n;
insert into conflicts (where_seen, event_id, digest_known, digest_received, seen_at)
select 'receipts', public.id('conflict', n), n, 1, now() - n * interval '364 days' / {kept}
from generate_series(1, {kept}) n;
insert into unknown_events (handler, event_id, hour, noted_at)
select 'payments_confirms_reported', public.id('unknown', n), now(),
  now() - n * interval '364 days' / {kept}
from generate_series(1, {kept}) n;
insert into failed_attempts
  (handler, event_id, tries, reason, subject, headers, body, failed_at, run_at)
select 'payments_confirms_reported', public.id('failed', n), 1, 'r', 's', '{{}}', '',
  now() - interval '1 hour', now() + n * interval '1 hour' / {kept}
from generate_series(1, {kept}) n
""",
    ),
    "notifier": (
        """
insert into recipients (person, chat_id, language, called_at, due_at)
select person, n, 'ru', now(), case when n <= 2000 then now() end
from (select * from public.ids where n <= {people}) ids
""",
        """
insert into deliveries (
  id, person, cause, kind, priority, thread, rank, details, state, not_before, message_id, reason,
  written_at, settled_at
)
select public.id(kind, n), person, order_id::text, kind, 1,
  order_id, rank, '{{}}', 'sent', at, n, 'edited', at, at + rank * interval '1 s'
from (select * from public.ids where n <= {orders}) ids
cross join lateral (select public.minutes({orders} - n)) t (at)
cross join (values ('paid_issuing', 1::smallint), ('access_ready', 2::smallint)) k (kind, rank);
insert into deliveries (
  id, person, cause, kind, priority, details, state, not_before, message_id, written_at, settled_at
)
select public.id('reward', n), public.id('person', 1), receipt::text,
  'reward_earned', 2, '{{"reward_minor": "1490"}}', 'sent', at, n, at, at
from (select * from public.ids where n <= {rewarded}) ids
cross join lateral (select public.minutes({rewarded} - n)) t (at);
insert into deliveries (id, person, cause, kind, priority, details, not_before)
select public.id('waits', n), public.id('person', n), 'c' || n, 'reward_earned', 2, '{{}}', now()
from generate_series(1, 2000) n
""",
    ),
    "vpn": (
        """
insert into nodes (
  id, name, kind, node_group, address, inbound, link_template, capacity, incarnation, compared_at
)
values (public.id('node', 1), 'one', 'xray', 'default', 'a', 'b', 'c', 1000000, 'i', now());
insert into periods (
  order_id, person, booked_at, plan, months, devices, node_group, list_month_minor, handled_at
)
select order_id, person, at, 'basic', 12, 5, 'default', 14900, at
from (select * from public.ids where n <= {orders}) ids
cross join lateral (select public.minutes(({orders} - n) / 2)) t (at);
insert into grants (order_id, person, announced_at)
select order_id, person, handled_at from periods;
insert into subscriptions
  (person, key, plan, devices, node_group, ends_at, state, begun_at, remind_at)
select person, public.id('key', row_number() over ()), plan, devices, node_group,
  booked_at + interval '1 year', 'live', booked_at,
  case when row_number() over () <= {due} then now() else booked_at + interval '362 days' end
from periods;
insert into access_jobs (
  person, node, key, until, devices, present, state, run_at, agreed_at
)
select person, public.id('node', 1), key, ends_at, devices, true, 'agreed', begun_at, begun_at
from subscriptions
""",
        """
insert into access_jobs (person, node, key, until, present, state, agreed_at)
select public.id('gone', n), public.id('node', 1), public.id('key', -n), now(), false, 'agreed',
  now() - (1 - n::float8 / {kept}) * interval '89 days'
from generate_series(1, {kept}) n
""",
    ),
    "referrals": (
        """
insert into people (person, partner, started_at)
select person,
  case
    when n = 1 then null
    when n <= {rewarded} then public.id('person', 1)
    else public.id('person', n / 10)
  end,
  public.minutes({people} - n)
from (select * from public.ids where n <= {people}) ids
""",
        """
insert into invitations (invitee, state, cause, at)
select person, 'registered', person::text,
  public.minutes({people} - n)
from (select * from public.ids where n between 2 and {people}) ids;
insert into invitations (invitee, state, follows, cause, at)
select person, 'activated', 'registered', receipt::text,
  public.minutes({people} - n)
from (select * from public.ids where n between 2 and {kept}) ids
""",
        """
insert into rewards (
  receipt, payer, value_minor, outcome, partner, paying, scale, percent, reward_minor,
  published_as, decided_at
)
select receipt, person, 14900, 'rewarded',
  public.id('person', case when n <= {rewarded} then 1 else n / 10 end),
  case when n <= {rewarded} then n - 1 else n % 10 + 1 end, null, 10, 1490,
  public.id('earned', n), public.minutes({people} - n)
from (select * from public.ids where n between 2 and {kept}) ids;
insert into partners (person, paying, earned_minor)
select public.id('person', partner), count(*) filter (where n <= {kept}),
  1490 * count(*) filter (where n <= {kept})
from generate_series(2, {people}) n
cross join lateral (select case when n <= {rewarded} then 1 else n / 10 end) p (partner)
group by partner;
insert into invited (partner, people)
select public.id('person', partner), count(*)
from generate_series(2, {people}) n
cross join lateral (select case when n <= {rewarded} then 1 else n / 10 end) p (partner)
group by partner;
insert into refusals (event, person, reason, refused_at)
select public.id('refused', n), person, 'oneself',
  now() - (1 - n::float8 / {kept}) * interval '89 days'
from (select * from public.ids where n <= {kept}) ids
""",
    ),
    "bot": (
        """
insert into people (person, telegram_id, first_name, language, code, started_event, started_at)
select person, n, 'A', 'ru', public.id('code', n)::text,
  public.id('started', n), public.minutes({people} - n)
from (select * from public.ids where n <= {people}) ids
""",
        """
insert into updates (bot, update_id, lane, chat, body, state, received_at, ended_at, event)
select 1, n, case when n % 20 = 0 then 'money' else 'chat' end, n % 100000, '{{}}', 'done',
  now() - (1 - n::float8 / {orders}) * interval '2.9 days',
  now() - (1 - n::float8 / {orders}) * interval '2.9 days', public.id('reported', n)
from generate_series(1, {orders}) n;
insert into updates (bot, update_id, lane, chat, body, state, received_at, ended_at)
select 1, -n, 'chat', n, '{{}}', 'failed', now() - interval '1 day', now()
from generate_series(1, {kept}) n;
insert into updates (bot, update_id, lane, chat, body)
select 1, {people} + n, 'chat', n, '{{}}' from generate_series(1, 2000) n;
insert into refusals (person, what, reason, at)
select person, 'x', 'y', now() - (1 - n::float8 / {kept}) * interval '89 days'
from (select * from public.ids where n <= {kept}) ids;
insert into star_refunds (id, charge, state, asked_at, ended_at)
select public.id('stars', n), n::text, 'done', at, at
from generate_series(1, {rewarded}) n
cross join lateral (select now() - n * interval '85 days' / {rewarded}) t (at);
insert into checkout_holds (payload, query_id, approved_at)
select public.id('payload', n)::text, n::text,
  now() - (1 - n::float8 / {kept}) * interval '23 hours'
from generate_series(1, {kept}) n;
insert into chat_leases (chat, held_until)
select n, now() + n * interval '10 minutes' / {kept} from generate_series(2001, {kept}) n;
insert into buckets (name, tokens, filled_at)
select public.id('bucket', n)::text, 1, now() + n * interval '5 hours' / {kept}
from generate_series(1, {kept}) n
""",
    ),
}
