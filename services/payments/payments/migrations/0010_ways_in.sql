-- Money from outside providers: what is to be done about each of their invoices, what they told,
-- and how fast all replicas together may ask each of them.

alter table invoices
  -- Why it can no longer be paid at its provider. Null where the shop itself ended it.
  add column reason text,
  add constraint open_invoices_have_a_reference check (
    state <> 'open' or acquirer like 'telegram\_%' or reference is not null
  );

-- One row for each invoice of an outside provider, until it can no longer be paid. `due_at` is also
-- the end of the lease of a claimed job.
create table invoice_jobs (
  invoice uuid primary key references invoices on delete cascade,
  acquirer text not null,
  step text not null check (step in ('open', 'watch')),
  reference text,
  -- The first try to open it. From then on an invoice may exist at the provider. `lost`: its answer
  -- may be lost, and has to be looked up before another try.
  asked_at timestamptz,
  lost boolean not null default false,
  due_at timestamptz not null default shop_now(),
  -- Failures in a row of this job alone, and answers so far of the provider to the watcher.
  tries int not null default 0,
  reads int not null default 0,
  claim uuid,
  constraint watched_invoices_have_a_reference check ((step = 'watch') = (reference is not null))
);
create index invoice_jobs_due on invoice_jobs (acquirer, step, least(tries, 1), due_at);
create index invoice_jobs_by_due on invoice_jobs (due_at);

-- What a provider told. It is a hint: the payment is read back. `waiting`: nobody has begun to read
-- it. `asking`: it was claimed at least once.
create table notices (
  id uuid primary key default gen_random_uuid(),
  acquirer text not null,
  reference text not null,
  kind text not null check (kind in ('payment', 'refund')),
  -- Whether an invoice had this reference when the notice came.
  known boolean not null,
  body bytea not null,
  received_at timestamptz not null default shop_now(),
  state text not null check (state in ('waiting', 'asking', 'done', 'refused', 'parked')),
  reason text,
  tries int not null default 0,
  due_at timestamptz not null default shop_now(),
  claim uuid
);
-- A notice that comes again while its reference waits needs no reading of its own. One that comes
-- while the payment is being read does: the answer may be older.
create unique index notices_wait_once_per_reference on notices (acquirer, reference)
  where state = 'waiting';
create index notices_due on notices (acquirer, least(tries, 1), due_at)
  where state in ('waiting', 'asking');
create index notices_of_the_unknown on notices (acquirer)
  where state in ('waiting', 'asking') and not known;
create index notices_waiting on notices (received_at) where state in ('waiting', 'asking');
create index notices_parked on notices (acquirer) where state = 'parked';
create index notices_ended on notices (received_at) where state not in ('waiting', 'asking');

-- `next_at` is when the provider may be asked again in this lane. `failures` are calls in a row
-- that failed because of the provider.
create table provider_pace (
  acquirer text not null,
  lane text not null check (lane in ('open', 'notice', 'watch')),
  every interval not null check (every > interval '0'),
  next_at timestamptz not null default shop_now(),
  failures int not null default 0 check (failures between 0 and 10),
  primary key (acquirer, lane)
);
insert into provider_pace (acquirer, lane, every)
select acquirer, lane, every
from (values ('yookassa'), ('cryptobot')) as a (acquirer)
cross join (
  values
    ('open', interval '0.1 seconds'),
    ('notice', interval '0.1 seconds'),
    ('watch', interval '1 second')
) as l (lane, every);

-- What really arrived, where it is not the amount that was paid: in another asset, or less a fee.
alter table receipts
  add column arrived_currency text,
  add column arrived_minor bigint check (arrived_minor > 0),
  add column fee_minor bigint not null default 0 check (fee_minor >= 0),
  add constraint arrived_money_has_a_currency
    check ((arrived_minor is null) = (arrived_currency is null));

-- Those of refunds, too: a later list must not forget an earlier one.
alter table transfers
  drop constraint transfers_reason_check,
  add constraint transfers_reason_check check (
    reason in (
      'receipt', 'fee', 'purchase', 'reward', 'owed_settled', 'purchase_undone', 'refund',
      'reward_reversed'
    )
  );

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert, update, delete on invoice_jobs, notices to %I', app);
  execute format('grant select, update on provider_pace to %I', app);
end $$;
