-- What is sold. Prices are data: the figures here are the shipped defaults, and operators' edits survive every start.
create table plans (
  plan text primary key,
  place int not null,
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

insert into plans (plan, place, devices, node_group)
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

-- What money of another currency is worth when no invoice says so: versions, the newest begun one counts.
create table rates (
  currency text not null,
  from_at timestamptz not null,
  kopecks bigint not null check (kopecks > 0),
  per_minor bigint not null check (per_minor > 0),
  primary key (currency, from_at)
);

insert into rates (currency, from_at, kopecks, per_minor) values ('XTR', '2026-01-01 00:00:00+00', 150, 1);

-- An order is what is wanted, frozen; invoices are ways to pay for it.
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
  constraint a_paid_order_has_its_time check ((state = 'paid') = (paid_at is not null))
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

-- Money that came, as the acquirer says; for ever once per charge. What it became is its booking.
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
  received_at timestamptz not null default now(),
  constraint receipts_happen_once_per_charge unique (acquirer, charge)
);

create table bookings (
  receipt uuid primary key references receipts,
  outcome text not null check (outcome in ('bought', 'wallet', 'suspense')),
  because text not null,
  order_id uuid references orders,
  invoice uuid references invoices,
  value_minor bigint check (value_minor >= 0),
  told_as uuid not null,
  booked_at timestamptz not null default now(),
  constraint what_rests_in_suspense_has_no_value check ((outcome = 'suspense') = (value_minor is null))
);
create index bookings_by_order on bookings (order_id);

-- The book. A person's accounts carry a balance; the shop's own are never hot rows, their sums are asked of the entries.
create table accounts (
  id uuid primary key,
  owner uuid,
  kind text not null,
  currency text not null,
  balance_minor bigint,
  constraint an_account_is_opened_once unique nulls not distinct (owner, kind, currency),
  constraint only_people_have_balances check ((owner is null) = (balance_minor is null)),
  constraint nobody_spends_what_is_not_there check (
    case when kind = 'owed' then balance_minor <= 0 else balance_minor >= 0 end
  )
);

create table transfers (
  id uuid primary key,
  cause text not null,
  reason text not null check (reason in ('receipt', 'purchase', 'reward', 'owed_settled')),
  person uuid,
  at timestamptz not null default now(),
  constraint transfers_happen_once_per_cause unique (cause, reason)
);
create index transfers_by_person on transfers (person, at desc);

create table entries (
  transfer uuid not null references transfers,
  account uuid not null references accounts,
  amount_minor bigint not null check (amount_minor <> 0),
  currency text not null,
  primary key (transfer, account)
);

create function refuse_the_unbalanced() returns trigger
language plpgsql as $$
declare
  culprit uuid;
begin
  select transfer into culprit from added group by transfer, currency having sum(amount_minor) <> 0 limit 1;
  if found then
    raise exception 'transfer % does not balance', culprit using errcode = 'check_violation';
  end if;
  return null;
end $$;

create trigger entries_balance
after insert on entries referencing new table as added
for each statement execute function refuse_the_unbalanced();

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert on receipts, bookings, transfers, entries to %I', app);
  execute format('grant select, insert, update on orders, invoices, accounts to %I', app);
  execute format('grant select on plans, prices, rates to %I', app);
end $$;
