-- The catalogue. These prices are the shipped defaults. An operator edits the rows, and no later
-- start of the service changes them again.
create table plans (
  plan text primary key,
  position int not null,
  devices int not null check (devices > 0),
  traffic_bytes bigint check (traffic_bytes > 0),
  node_group text not null,
  on_sale boolean not null default true
);

create table prices (
  plan text not null references plans,
  months int not null check (months > 0),
  price_minor bigint not null check (price_minor > 0),
  stars int not null check (stars > 0),
  primary key (plan, months)
);

insert into plans (plan, position, devices, node_group)
values ('basic', 1, 5, 'default'), ('plus', 2, 10, 'default');

insert into prices (plan, months, price_minor, stars)
values
  ('basic', 1, 14900, 99),
  ('basic', 3, 39900, 269),
  ('basic', 6, 74900, 499),
  ('basic', 12, 139900, 929),
  ('plus', 1, 29900, 199),
  ('plus', 3, 69900, 469),
  ('plus', 6, 119900, 799),
  ('plus', 12, 229900, 1529);

-- The value of another currency where no invoice states a ratio: `kopecks` for every `per_minor`
-- of its minor units. Rows are versions. The newest one that has begun applies.
create table rates (
  currency text not null,
  from_at timestamptz not null,
  kopecks bigint not null check (kopecks > 0),
  per_minor bigint not null check (per_minor > 0),
  primary key (currency, from_at)
);

insert into rates (currency, from_at, kopecks, per_minor)
values ('XTR', '2026-01-01 00:00:00+00', 150, 1);

-- An order freezes a plan and its price. Its invoices are ways to pay for it.
create table orders (
  id uuid primary key,
  person uuid not null,
  what text not null check (what in ('subscription')),
  plan text not null,
  months int not null,
  devices int not null,
  traffic_bytes bigint,
  node_group text not null,
  list_month_minor bigint not null check (list_month_minor > 0),
  price_minor bigint not null check (price_minor > 0),
  received_minor bigint not null default 0 check (received_minor >= 0),
  state text not null default 'open' check (state in ('open', 'paid', 'closed')),
  placed_at timestamptz not null,
  honoured_until timestamptz not null,
  paid_at timestamptz,
  trace text,
  constraint paid_orders_have_a_time check ((state = 'paid') = (paid_at is not null))
);
create index open_orders_by_person on orders (person) where state = 'open';

create table invoices (
  id uuid primary key,
  order_id uuid not null references orders,
  way text not null check (way in ('stars')),
  asked_minor bigint not null check (asked_minor > 0),
  asked_currency text not null,
  state text not null default 'open' check (state in ('open', 'superseded', 'paid')),
  opened_at timestamptz not null,
  expires_at timestamptz not null
);
create index invoices_by_order on invoices (order_id, opened_at);

-- Money that arrived, as the acquirer reports it: one row per charge for ever.
create table receipts (
  id uuid primary key,
  acquirer text not null,
  charge text not null,
  payer uuid,
  currency text not null,
  amount_minor bigint not null check (amount_minor > 0),
  payload text not null,
  digest bigint not null,
  paid_at timestamptz not null,
  received_at timestamptz not null default shop_now(),
  constraint receipts_happen_once_per_charge unique (acquirer, charge)
);

-- The decision about a receipt, and the event that published it.
create table bookings (
  receipt uuid primary key references receipts,
  outcome text not null check (outcome in ('bought', 'wallet', 'suspense')),
  because text not null,
  order_id uuid references orders,
  invoice uuid references invoices,
  value_minor bigint check (value_minor >= 0),
  published_as uuid not null,
  booked_at timestamptz not null default shop_now(),
  constraint suspense_bookings_have_no_value
    check ((outcome = 'suspense') = (value_minor is null))
);
create index bookings_by_order on bookings (order_id);

-- The ledger. Accounts of people carry a balance. The shop's accounts carry none: every payment
-- would update the same rows, so their sums are computed from the entries.
create table accounts (
  id uuid primary key,
  owner uuid,
  kind text not null,
  currency text not null,
  balance_minor bigint,
  constraint accounts_are_opened_once unique nulls not distinct (owner, kind, currency),
  constraint only_people_have_balances check ((owner is null) = (balance_minor is null)),
  constraint only_owed_balances_are_negative check (
    case when kind = 'owed' then balance_minor <= 0 else balance_minor >= 0 end
  )
);

create table transfers (
  id uuid primary key,
  cause text not null,
  reason text not null check (reason in ('receipt', 'purchase', 'reward', 'owed_settled')),
  person uuid,
  at timestamptz not null default shop_now(),
  constraint transfers_happen_once_per_cause unique (cause, reason)
);
create index transfers_by_person on transfers (person, at desc);

-- Without foreign keys: entries are written by the hundred, and a foreign key looks up each row
-- separately, twice. That was a fifth of the database time of a payment. The trigger checks all
-- entries of a statement at once and gives the same guarantee, because transfers and accounts are
-- never deleted.
create table entries (
  transfer uuid not null,
  account uuid not null,
  amount_minor bigint not null check (amount_minor <> 0),
  currency text not null,
  primary key (transfer, account)
);

create function check_entries() returns trigger
language plpgsql as $$
declare
  culprit uuid;
begin
  select transfer into culprit
  from added
  group by transfer, currency
  having sum(amount_minor) <> 0
  limit 1;
  if found then
    raise exception 'transfer % does not balance', culprit using errcode = 'check_violation';
  end if;
  select a.transfer into culprit
  from added a
  left join transfers t on t.id = a.transfer
  left join accounts c on c.id = a.account and c.currency = a.currency
  where t.id is null or c.id is null
  limit 1;
  if found then
    raise exception 'transfer % or one of its accounts does not exist', culprit
      using errcode = 'foreign_key_violation';
  end if;
  return null;
end $$;

create trigger entries_balance
after insert on entries referencing new table as added
for each statement execute function check_entries();

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert on receipts, bookings, transfers, entries to %I', app);
  execute format('grant select, insert, update on orders, invoices, accounts to %I', app);
  execute format('grant select on plans, prices, rates to %I', app);
end $$;
