-- What every service has: the log of events with its outbox, the inbox, dead letters, conflicts,
-- commands, the anti-entropy check, and the arithmetic of token buckets.

-- The time of the shop: each statement asks for it instead of now() and clock_timestamp(). The
-- shop of a sandbox may be ahead, by the setting `turnpike.ahead` of its database; elsewhere a
-- service with that setting does not start. PostgreSQL inlines both functions, so that conditions
-- use an index as with its own.
create function shop_now() returns timestamptz
language sql
stable
parallel safe
return now()
  + coalesce(nullif(current_setting('turnpike.ahead', true), '')::interval, interval '0');

-- The same within a transaction: it goes on.
create function shop_clock() returns timestamptz
language sql
volatile
parallel safe
return clock_timestamp()
  + coalesce(nullif(current_setting('turnpike.ahead', true), '')::interval, interval '0');

-- The log of events: written in the transaction that makes them true, kept for 30 days.
create table events (
  seq bigint generated always as identity primary key,
  id uuid not null constraint events_are_recorded_once unique,
  topic text not null,
  version int not null,
  body json not null,
  digest bigint not null,
  trace text,
  recorded_at timestamptz not null default shop_now()
);
create index events_by_time on events (recorded_at);

-- Pending: the broker has not acknowledged them yet. Live events go before republished ones.
create table outbox (
  republished boolean not null default false,
  seq bigint not null constraint outbox_holds_events references events (seq),
  primary key (republished, seq)
);

-- What this service knows of its own stream. Three days are republished to another stream.
create table streams (
  name text primary key,
  incarnation text not null,
  sequence bigint not null
);

create table inbox (
  handler text not null,
  event_id uuid not null,
  digest bigint not null,
  hour timestamptz not null,
  outcome text not null default 'done' check (outcome in ('done', 'dead_lettered')),
  handled_at timestamptz not null default shop_now(),
  primary key (handler, event_id)
);
create index inbox_by_hour on inbox (handler, hour);
-- Rows are dropped by age, and inserted in its order.
create index inbox_by_age on inbox using brin (handled_at);

-- How often a handler failed on one event for a reason of its own, counted across restarts.
create table failed_attempts (
  handler text not null,
  event_id uuid not null,
  tries int not null,
  reason text not null,
  primary key (handler, event_id)
);

create table dead_letters (
  id bigint generated always as identity primary key,
  handler text not null,
  event_id uuid not null,
  subject text not null,
  headers json not null,
  body bytea not null,
  reason text not null,
  dead_lettered_at timestamptz not null default shop_now(),
  replayed_at timestamptz,
  constraint messages_are_dead_lettered_once unique (handler, event_id)
);

-- The same id with other business fields: never a silent success.
create table conflicts (
  id bigint generated always as identity primary key,
  where_seen text not null,
  event_id uuid not null,
  digest_known bigint not null,
  digest_received bigint not null,
  seen_at timestamptz not null default shop_now(),
  constraint conflicts_are_recorded_once unique (where_seen, event_id, digest_received)
);

-- The row that makes a command act once is also its audit row. A refusal is a row too, but does
-- not use the id up.
create table commands (
  seq bigint generated always as identity primary key,
  id uuid not null,
  topic text not null,
  actor text not null,
  reason text,
  digest bigint not null,
  request json not null,
  outcome text not null check (outcome in ('done', 'refused')),
  answer json,
  executed_at timestamptz not null default shop_now()
);
create unique index commands_act_once on commands (id) where outcome = 'done';

-- The anti-entropy check: when each handler is due. One replica compares a handler at a time, by
-- moving `due_at` on. `whole_due_at` is for the comparison of all 30 days.
create table comparisons (
  handler text primary key,
  due_at timestamptz not null default shop_now() + interval '1 minute',
  whole_due_at timestamptz not null default shop_now(),
  compared_at timestamptz not null default shop_now()
);

-- An hour of which this handler lacks events. The row goes when both sides agree again.
create table differences (
  handler text not null,
  hour timestamptz not null,
  missing int not null,
  tries int not null,
  tried_at timestamptz not null default shop_now(),
  given_up_at timestamptz,
  primary key (handler, hour)
);

-- Handled here and unknown to the owner: an effect without a cause, for an operator to decide.
create table unknown_events (
  handler text not null,
  event_id uuid not null,
  hour timestamptz not null,
  noted_at timestamptz not null default shop_now(),
  primary key (handler, event_id)
);

-- The tokens in a bucket now. It fills with `per_s`, up to `burst`; an earlier time adds nothing.
create function tokens_now(
  tokens float8, filled_at timestamptz, per_s float8, burst float8
) returns float8
language sql
return least(
  burst,
  tokens + per_s * greatest(extract(epoch from shop_clock() - filled_at)::float8, 0)
);

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert on events, conflicts to %I', app);
  execute format('grant select, insert, delete on outbox to %I', app);
  execute format(
    'grant select, insert, update on streams, inbox, commands, dead_letters to %I', app
  );
  execute format('grant select, insert, update, delete on failed_attempts to %I', app);
  execute format('grant delete on events, inbox to %I', app);
  execute format('grant update on outbox to %I', app);
  execute format(
    'grant select, insert, update, delete on comparisons, differences, unknown_events to %I', app
  );
end $$;
