-- A comparison of a provider's listing with the ledger: one row per run, which is also its report.
-- `after` continues the walk of `step`. `reason` says why a run waits, or why it failed.
create table reconciliations (
  id uuid primary key,
  acquirer text not null,
  kind text not null check (kind in ('hourly', 'daily', 'asked')),
  since timestamptz not null,
  until timestamptz not null,
  state text not null default 'running' check (state in ('running', 'done', 'failed')),
  step text not null default 'payments'
    check (step in ('payments', 'refunds', 'booked', 'clearing')),
  after text,
  pages int not null default 0,
  -- How many payments were listed, and how many differences of each kind were found.
  counts jsonb not null default '{}',
  reason text,
  started_at timestamptz not null default shop_now(),
  ended_at timestamptz,
  constraint reconciliations_have_a_window check (since < until),
  constraint reconciliations_end_once check ((state = 'running') = (ended_at is null))
);
create index reconciliations_by_kind on reconciliations (acquirer, kind, started_at);
create index reconciliations_by_time on reconciliations (started_at, id);
create index reconciliations_running on reconciliations (acquirer, started_at, id)
  where state = 'running';

-- Whatever a run found to differ. The first 10 000 of a run are kept, the others are only counted.
create table reconciliation_differences (
  id bigint generated always as identity primary key,
  run uuid not null references reconciliations on delete cascade,
  acquirer text not null,
  kind text not null check (
    kind in (
      'missing_here', 'missing_there', 'amount', 'currency', 'refund', 'unreadable', 'foreign'
    )
  ),
  reference text not null,
  charge text not null,
  their_currency text,
  their_minor bigint,
  our_currency text,
  our_minor bigint,
  sentence text,
  done text not null check (done in ('booked', 'reported')),
  found_at timestamptz not null default shop_now(),
  constraint differences_happen_once_per_run unique (run, kind, reference)
);
create index reconciliation_differences_in_order on reconciliation_differences (run, id);
create index reconciliation_differences_by_time on reconciliation_differences (found_at, id);
-- A payment of somebody else, whose merchant account is shared, is reported once for ever.
create unique index foreign_payments_are_reported_once
  on reconciliation_differences (acquirer, reference)
  where kind = 'foreign';

-- The charges that a run has seen in the listing, until it ends.
create table reconciliation_listed (
  run uuid not null references reconciliations on delete cascade,
  charge text not null,
  primary key (run, charge)
);

-- One replica at a time walks a provider's listing. `held_until` ends the lease of `holder`; before
-- `due_at` the provider is not asked, after so many `failures` in a row. `reconciled_until` is how
-- far the hourly runs have come.
create table reconciliation_leases (
  acquirer text primary key,
  holder uuid,
  held_until timestamptz not null default shop_now(),
  due_at timestamptz not null default shop_now(),
  failures int not null default 0,
  reconciled_until timestamptz,
  finished_at timestamptz,
  added_at timestamptz not null default shop_now()
);

-- What providers outside Telegram were paid, by the time that they told.
create index receipts_by_paid_time on receipts (acquirer, paid_at, charge)
  where acquirer not like 'telegram\_%';

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert, update, delete on reconciliations to %I', app);
  execute format('grant select, insert, delete on reconciliation_differences to %I', app);
  execute format('grant select, insert, delete on reconciliation_listed to %I', app);
  execute format('grant select, insert, update on reconciliation_leases to %I', app);
end $$;
