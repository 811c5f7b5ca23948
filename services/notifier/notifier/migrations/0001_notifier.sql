-- The people that the shop writes to. The chat is known after bot-gateway was queried; a published
-- change of a person may arrive before that. One message of a chat is under way at a time: `claim`
-- is the worker that sends it, until `due_at`. Without a claim, `due_at` is the time of the chat's
-- next message; it is null if none waits.
create table recipients (
  person uuid primary key,
  chat_id bigint,
  language text check (language in ('ru', 'en')),
  reachable boolean not null default true,
  changed_at timestamptz,
  -- When Telegram was last called for this chat.
  called_at timestamptz,
  due_at timestamptz,
  claim uuid,
  constraint a_known_chat_has_a_language check (chat_id is null or language is not null),
  constraint a_claim_has_an_end check (claim is null or due_at is not null)
);
create index recipients_by_due on recipients (due_at) where due_at is not null;

-- Every message, once for ever per person, cause and kind. `details` holds ids, amounts and times;
-- it holds no name and no key. The messages of a chat are sent in the order of their events: by the
-- time of the event, then by its position among events of the same time.
create table deliveries (
  id uuid primary key,
  person uuid not null references recipients,
  cause text not null,
  kind text not null,
  priority smallint not null check (priority between 1 and 3),
  thread uuid,
  rank smallint not null default 0,
  details json not null,
  trace text,
  state text not null default 'waiting' check (
    state in ('waiting', 'claimed', 'sent', 'unreachable', 'failed', 'unknown', 'superseded')
  ),
  not_before timestamptz not null,
  tries int not null default 0,
  waits int not null default 0,
  message_id bigint,
  reason text,
  written_at timestamptz not null default shop_now(),
  settled_at timestamptz,
  occurred_at timestamptz not null default shop_now(),
  position int not null default 0,
  constraint messages_are_written_once unique (person, cause, kind),
  constraint a_sent_message_has_its_id check (state <> 'sent' or message_id is not null),
  constraint a_settled_message_has_its_time check (
    (settled_at is null) = (state in ('waiting', 'claimed'))
  ),
  constraint a_rank_belongs_to_a_thread check ((thread is null) = (rank = 0))
);
create index deliveries_by_turn
on deliveries (person, priority, rank desc, occurred_at, position)
where state in ('waiting', 'claimed');
create index deliveries_by_thread on deliveries (thread, rank) where thread is not null;

-- How many messages may be sent now. One row, so that all replicas share Telegram's limit for one
-- bot.
create table buckets (
  name text primary key,
  tokens double precision not null check (tokens >= 0),
  filled_at timestamptz not null default shop_now(),
  paused_until timestamptz not null default shop_now()
);
insert into buckets (name, tokens) values ('telegram', 1);

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert, update on recipients, deliveries to %I', app);
  execute format('grant select, update on buckets to %I', app);
end $$;
