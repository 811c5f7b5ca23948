-- Whom the shop writes to. The chat is known once bot-gateway was asked; what it tells of a person may come before that.
-- One message of a chat is on its way at a time: `claim` is the process that has it, until `due_at`. Without a claim
-- `due_at` is the moment of the chat's next message; null where nothing waits.
create table recipients (
  person uuid primary key,
  chat_id bigint,
  language text check (language in ('ru', 'en')),
  reachable boolean not null default true,
  changed_at timestamptz,
  spoken_at timestamptz,
  due_at timestamptz,
  claim uuid,
  constraint a_known_chat_has_a_language check (chat_id is null or language is not null),
  constraint every_claim_ends check (claim is null or due_at is not null)
);
create index recipients_by_due on recipients (due_at) where due_at is not null;

-- Every message, for ever once per person, cause and kind. `details` holds ids, amounts and moments, no name and no key.
create table deliveries (
  id uuid primary key,
  person uuid not null references recipients,
  cause text not null,
  kind text not null,
  lane smallint not null check (lane between 1 and 3),
  story uuid,
  rank smallint not null default 0,
  details json not null,
  trace text,
  state text not null default 'waiting'
    check (state in ('waiting', 'claimed', 'sent', 'unreachable', 'failed', 'unknown', 'superseded')),
  not_before timestamptz not null,
  tries int not null default 0,
  waits int not null default 0,
  message_id bigint,
  reason text,
  written_at timestamptz not null default now(),
  settled_at timestamptz,
  constraint messages_are_written_once unique (person, cause, kind),
  constraint a_sent_message_has_its_id check (state <> 'sent' or message_id is not null),
  constraint what_is_over_has_its_time check ((settled_at is null) = (state in ('waiting', 'claimed'))),
  constraint a_rank_belongs_to_a_story check ((story is null) = (rank = 0))
);
create index deliveries_by_turn on deliveries (person, lane, rank desc, not_before)
where state in ('waiting', 'claimed');
create index deliveries_by_story on deliveries (story, rank) where story is not null;

-- What may still be said this moment; one row, so that all replicas share what Telegram allows to one bot.
create table buckets (
  name text primary key,
  tokens double precision not null check (tokens >= 0),
  refilled_at timestamptz not null default now(),
  paused_until timestamptz not null default now()
);
insert into buckets (name, tokens) values ('telegram', 1);

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert, update on recipients, deliveries to %I', app);
  execute format('grant select, update on buckets to %I', app);
end $$;
