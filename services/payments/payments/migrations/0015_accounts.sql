-- The day that is being summed, in UTC, and what moved in it. A closed day is a copy of these sums.
alter table closed_sums
  add column debit_minor numeric not null default 0 check (debit_minor >= 0),
  add column credit_minor numeric not null default 0 check (credit_minor >= 0);
alter table ledger_closing add column open_day date;

update ledger_closing c
set open_day = (
  coalesce(
    (
      select t.at
      from transfers t
      where (t.at, t.id) > (c.closed_at, c.closed_id)
      order by t.at, t.id
      limit 1
    ),
    shop_now() - interval '10 minutes'
  ) at time zone 'UTC'
)::date;
alter table ledger_closing alter column open_day set not null;

-- The part of this day that was summed before it had a day.
update closed_sums s
set debit_minor = part.debit_minor, credit_minor = part.credit_minor
from (
  select a.kind, e.currency,
    coalesce(-sum(e.amount_minor) filter (where e.amount_minor < 0), 0) as debit_minor,
    coalesce(sum(e.amount_minor) filter (where e.amount_minor > 0), 0) as credit_minor
  from ledger_closing c
  join transfers t
    on t.at >= c.open_day::timestamp at time zone 'UTC'
    and (t.at, t.id) <= (c.closed_at, c.closed_id)
  join entries e on e.transfer = t.id
  join accounts a on a.id = e.account
  group by a.kind, e.currency
) part
where s.kind = part.kind and s.currency = part.currency;

-- Every day since then, also one without a transfer: once, in order, for ever.
create table closed_days (
  day date primary key,
  closed_at timestamptz not null default shop_now()
);
create index closed_days_by_time on closed_days (closed_at, (day - date '1970-01-01'));

-- The accounts of the shop, and those of people by their kind, at the end of a closed day.
create table account_days (
  day date not null references closed_days,
  account text not null,
  currency text not null,
  debit_minor numeric not null check (debit_minor >= 0),
  credit_minor numeric not null check (credit_minor >= 0),
  balance_minor numeric not null,
  primary key (day, account, currency)
);

-- No transfer is dated into what is closed, also when the clock has stepped back: it belongs to the
-- first moment that is open.
create function booked_at() returns timestamptz
language sql stable
return (select greatest(shop_now(), closed_at + interval '1 microsecond') from ledger_closing);

alter table transfers alter column at set default booked_at();

-- As before, and refuses what is dated into the closed part. Its transaction comes again.
create or replace function check_entries() returns trigger
language plpgsql as $$
declare
  culprit uuid;
  is_late boolean;
begin
  select transfer into culprit
  from added
  group by transfer, currency
  having sum(amount_minor) <> 0
  limit 1;
  if found then
    raise exception 'transfer % does not balance', culprit using errcode = 'check_violation';
  end if;
  select a.transfer, t.id is not null and c.id is not null into culprit, is_late
  from added a
  cross join ledger_closing l
  left join transfers t on t.id = a.transfer
  left join accounts c on c.id = a.account and c.currency = a.currency
  where t.id is null or c.id is null or (t.at, t.id) <= (l.closed_at, l.closed_id)
  limit 1;
  if found and is_late then
    raise exception 'transfer % is dated into the closed part of the ledger', culprit
      using errcode = 'serialization_failure';
  end if;
  if found then
    raise exception 'transfer % or one of its accounts does not exist', culprit
      using errcode = 'foreign_key_violation';
  end if;
  return null;
end $$;

-- What a provider told of a receipt after it was booked: once, for ever.
create table late_arrivals (
  receipt uuid primary key references receipts,
  arrived_currency text not null,
  arrived_minor bigint not null check (arrived_minor > 0),
  fee_minor bigint not null check (fee_minor >= 0),
  told_at timestamptz not null default shop_now()
);
create index late_arrivals_by_time on late_arrivals (told_at, receipt);

alter table reconciliation_differences
  drop constraint reconciliation_differences_kind_check,
  add constraint reconciliation_differences_kind_check check (
    kind in (
      'missing_here', 'missing_there', 'amount', 'currency', 'refund', 'unreadable', 'foreign',
      'fee', 'balance'
    )
  );

alter table reconciliations
  drop constraint reconciliations_step_check,
  add constraint reconciliations_step_check
    check (step in ('payments', 'refunds', 'booked', 'balance', 'clearing'));

-- Those of all versions: a later list must not forget an earlier one.
alter table transfers
  drop constraint transfers_reason_check,
  add constraint transfers_reason_check check (
    reason in (
      'receipt', 'fee', 'purchase', 'reward', 'owed_settled', 'purchase_undone', 'refund',
      'reward_reversed', 'adjustment', 'resolution', 'hold', 'hold_returned', 'withdrawn'
    )
  );

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert on closed_days, account_days, late_arrivals to %I', app);
end $$;
