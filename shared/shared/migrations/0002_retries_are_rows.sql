-- A message that failed waits as a row, with its bytes, until `run_at`. The rows of before hold no
-- bytes: their messages wait in the broker, which delivers them again.
delete from failed_attempts;
alter table failed_attempts
  add column subject text not null,
  add column headers json not null,
  add column body bytea not null,
  add column failed_at timestamptz not null default shop_now(),
  add column run_at timestamptz not null;
create index failed_attempts_due on failed_attempts (handler, run_at);

-- A message that waits has an inbox row too: it counts in the hourly checksums, and its repeat is a
-- repeat. Older rows satisfy the former constraint, so they are not read.
alter table inbox
  drop constraint inbox_outcome_check,
  add constraint an_event_is_done_dead_lettered_or_waiting
    check (outcome in ('done', 'dead_lettered', 'waiting')) not valid;
