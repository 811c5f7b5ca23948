-- Indexes in the order of time, for pages of the audit and of keys.
create index receipts_by_time on receipts (received_at, id);
create index bookings_by_time on bookings (booked_at, receipt);
create index orders_by_time on orders (placed_at, id);
create index orders_by_paid_time on orders (paid_at, id) where paid_at is not null;
create index paid_orders_by_person on orders (person, placed_at, id) where state = 'paid';
create index invoices_by_time on invoices (opened_at, id);
create index transfers_by_time on transfers (at, id);

-- The last receipts of a partner lie among thousands of rewards.
create index receipts_of_person on transfers (person, at desc) where reason = 'receipt';

-- The rewards of each person by the hour: a few hundred rows tell how much is young.
create table reward_hours (
  person uuid not null,
  hour timestamptz not null,
  amount_minor numeric not null,
  primary key (person, hour)
);
create index reward_hours_by_time on reward_hours (hour, person);

insert into reward_hours (person, hour, amount_minor)
select t.person, date_trunc('hour', t.at, 'UTC'), sum(e.amount_minor)
from transfers t
join entries e on e.transfer = t.id and e.amount_minor > 0
where t.reason = 'reward' and t.at > shop_now() - interval '60 days'
group by 1, 2;

-- The sums of all transfers up to the closing, by kind of account: the trial balance adds only what
-- came since.
create table closed_sums (
  kind text not null,
  currency text not null,
  amount_minor numeric not null,
  primary key (kind, currency)
);

create table ledger_closing (
  single boolean primary key default true check (single),
  closed_at timestamptz not null,
  closed_id uuid not null
);

insert into ledger_closing (closed_at, closed_id)
select coalesce(max(at), '1970-01-01 00:00:00+00'), '00000000-0000-0000-0000-000000000000'
from transfers
where at < shop_now() - interval '10 minutes';

insert into closed_sums (kind, currency, amount_minor)
select a.kind, e.currency, sum(e.amount_minor)
from ledger_closing c
join transfers t on (t.at, t.id) <= (c.closed_at, c.closed_id)
join entries e on e.transfer = t.id
join accounts a on a.id = e.account
group by a.kind, e.currency;

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert, update, delete on reward_hours to %I', app);
  execute format('grant select, insert, update on closed_sums to %I', app);
  execute format('grant select, update on ledger_closing to %I', app);
end $$;
