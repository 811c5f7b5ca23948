-- Every person who pressed /start. This is the only table with Telegram ids and names: other
-- services know the random person id. The screen is the one message of a chat that is edited in
-- place; `screen_order` is the order that it offers to pay.
create table people (
  person uuid primary key,
  telegram_id bigint not null constraint a_telegram_id_belongs_to_one_person unique,
  first_name text not null,
  username text,
  language text not null check (language in ('ru', 'en')),
  code text not null constraint an_invitation_code_belongs_to_one_person unique,
  invited_by uuid references people,
  offer_version int,
  offer_accepted_at timestamptz,
  reachable boolean not null default true,
  started_event uuid not null,
  started_at timestamptz not null default shop_now(),
  screen_id bigint,
  screen_order uuid,
  constraint an_accepted_offer_has_its_time
    check ((offer_version is null) = (offer_accepted_at is null)),
  constraint nobody_invites_themselves check (invited_by <> person),
  constraint an_order_is_offered_on_a_screen
    check (screen_order is null or screen_id is not null)
);

-- Updates of Telegram, stored before Telegram gets the confirmation. `seq` is the order of arrival:
-- update ids jump.
create table updates (
  seq bigint generated always as identity primary key,
  bot bigint not null,
  update_id bigint not null,
  lane text not null check (lane in ('chat', 'money', 'checkout')),
  chat bigint not null,
  body json not null,
  state text not null default 'waiting'
    check (state in ('waiting', 'done', 'dropped', 'failed')),
  tries int not null default 0,
  held_until timestamptz,
  reason text,
  event uuid,
  received_at timestamptz not null default shop_now(),
  ended_at timestamptz,
  constraint an_update_is_taken_in_once unique (bot, update_id),
  constraint an_ended_update_has_its_time check ((state = 'waiting') = (ended_at is null))
);
create index updates_waiting on updates (lane, seq) where state = 'waiting';
create index updates_waiting_by_chat on updates (chat, seq)
  where state = 'waiting' and lane = 'chat';
create index updates_ended on updates (ended_at) where state in ('done', 'dropped');
create index updates_failed on updates (seq) where state = 'failed';
create index updates_by_event on updates (event) where event is not null;

-- The lease of the worker that runs a chat. Without a holder the chat is paused after a failure.
create table chat_leases (
  chat bigint primary key,
  holder uuid,
  held_until timestamptz not null
);

-- Requests in a chat, and charges, that were refused, by their named reason.
create table refusals (
  id bigint generated always as identity primary key,
  person uuid references people,
  what text not null,
  reason text not null,
  at timestamptz not null default shop_now()
);
create index refusals_by_time on refusals (at);

-- Token buckets, shared by all replicas. Unlogged: a crash that loses them costs a second of
-- pacing, and logging them would cost a disk write per message. The last columns keep Telegram's
-- "too many requests": the chat that was refused last, until when, and the end of a pause of all
-- messages.
create unlogged table buckets (
  name text primary key,
  tokens double precision not null,
  filled_at timestamptz not null,
  refused_chat bigint,
  refused_until timestamptz,
  paused_until timestamptz
);

-- Invoices that may be charged at this moment: their pre-checkout was approved, and one invoice is
-- charged once. `query_id` is the approved pre-checkout: its own repeat is approved again.
create table checkout_holds (
  payload text primary key,
  query_id text not null,
  approved_at timestamptz not null,
  charged_at timestamptz
);
create index checkout_holds_by_time on checkout_holds (approved_at);

-- Operators look for a payment by its charge or by its order; `events` keep both for 30 days.
create index events_by_charge on events ((body ->> 'charge'))
  where topic = 'bot.payment.reported';
create index events_by_order on events (left(body ->> 'payload', 32))
  where topic = 'bot.payment.reported';

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert, update on people to %I', app);
  execute format('grant select, insert, update, delete on updates, chat_leases to %I', app);
  execute format('grant select, insert, update, delete on buckets, checkout_holds to %I', app);
  execute format('grant select, insert, delete on refusals to %I', app);
end $$;
