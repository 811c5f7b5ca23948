-- Everybody who pressed /start. The one table that knows a Telegram id and a name; others know the random person id.
create table people (
  person uuid primary key,
  telegram_id bigint not null constraint somebody_is_one_person unique,
  first_name text not null,
  username text,
  language text not null check (language in ('ru', 'en')),
  code text not null constraint a_code_invites_for_one_person unique,
  invited_by uuid references people,
  offer_version int,
  offer_accepted_at timestamptz,
  reachable boolean not null default true,
  started_fact uuid not null,
  started_at timestamptz not null default now(),
  constraint an_accepted_offer_has_its_time check ((offer_version is null) = (offer_accepted_at is null)),
  constraint nobody_invites_himself check (invited_by <> person)
);

-- What Telegram told us, before Telegram is told that it was received. `seq` is the order of arrival: update ids jump.
create table updates (
  seq bigint generated always as identity primary key,
  bot bigint not null,
  update_id bigint not null,
  lane text not null check (lane in ('chat', 'money', 'checkout')),
  chat bigint not null,
  body json not null,
  state text not null default 'waiting' check (state in ('waiting', 'done', 'dropped', 'failed')),
  tries int not null default 0,
  held_until timestamptz,
  reason text,
  fact uuid,
  received_at timestamptz not null default now(),
  ended_at timestamptz,
  constraint an_update_is_taken_in_once unique (bot, update_id),
  constraint what_ended_has_its_time check ((state = 'waiting') = (ended_at is null))
);
create index updates_waiting on updates (lane, seq) where state = 'waiting';
create index updates_waiting_by_chat on updates (chat, seq) where state = 'waiting' and lane = 'chat';
create index updates_ended on updates (ended_at) where state in ('done', 'dropped');
create index updates_failed on updates (seq) where state = 'failed';

-- Whose turn a chat is: one worker's until then, or nobody's while it rests after a failure.
create table turns (
  chat bigint primary key,
  holder uuid,
  held_until timestamptz not null
);

-- What was asked for in a chat and not done, by its named reason.
create table refusals (
  id bigint generated always as identity primary key,
  person uuid references people,
  what text not null,
  reason text not null,
  at timestamptz not null default now()
);
create index refusals_by_time on refusals (at);

-- Token buckets, shared by all replicas. Losing them in a crash costs a second of politeness, logging them a disk write.
create unlogged table buckets (
  name text primary key,
  tokens double precision not null,
  filled_at timestamptz not null
);

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert, update on people to %I', app);
  execute format('grant select, insert, update, delete on updates, turns, buckets to %I', app);
  execute format('grant select, insert, delete on refusals to %I', app);
end $$;
