-- What a refund took back of a reward, once per refund. A reward less its reversals is its
-- percentage of what remains paid.
create table reversals (
  refund uuid primary key,
  receipt uuid not null references rewards,
  payer uuid not null,
  value_minor bigint not null check (value_minor >= 0),
  partner uuid,
  reversed_minor bigint not null check (reversed_minor >= 0),
  published_as uuid,
  decided_at timestamptz not null default shop_now(),
  constraint a_reversal_has_its_event check ((reversed_minor > 0) = (published_as is not null)),
  constraint a_partner_is_taken_from check (reversed_minor = 0 or partner is not null)
);
create index reversals_by_receipt on reversals (receipt) include (value_minor, reversed_minor);
create index reversals_by_time on reversals (decided_at, refund);

-- Refunds that came before the decision about their receipt, which takes them.
create table waiting_refunds (
  refund uuid primary key,
  receipt uuid not null,
  body json not null,
  trace text,
  waits_since timestamptz not null default shop_now()
);
create index waiting_refunds_by_receipt on waiting_refunds (receipt);
create index waiting_refunds_by_time on waiting_refunds (waits_since);

-- An invitee of whom nothing remains paid counts no more, until they pay again. `seq` is that of
-- the decisions, so that the audit recomputes the counts by it.
create table lapses (
  seq bigint primary key default nextval('rewards_seq_seq'),
  invitee uuid not null references people,
  partner uuid not null,
  paying int not null check (paying >= 0),
  refund uuid not null references reversals,
  at timestamptz not null default shop_now(),
  resumed_by uuid
);
create unique index an_invitee_lapses_once on lapses (invitee) where resumed_by is null;
create index lapses_by_turn on lapses (partner, seq) include (paying);
create index lapses_by_receipt on lapses (resumed_by) where resumed_by is not null;

-- The newest payments of a payer tell whether something remains paid.
create index rewards_by_payer on rewards (payer, seq) include (value_minor);

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert on reversals to %I', app);
  execute format('grant select, insert, update (resumed_by) on lapses to %I', app);
  execute format('grant select, insert, delete on waiting_refunds to %I', app);
  execute format('grant usage on sequence rewards_seq_seq to %I', app);
end $$;
