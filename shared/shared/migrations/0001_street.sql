-- The tables that every service has: facts to tell, facts heard, commands obeyed, letters nobody could read.

create table facts (
  seq bigint generated always as identity primary key,
  id uuid not null constraint facts_are_told_once unique,
  topic text not null,
  version int not null,
  body json not null,
  digest bigint not null,
  trace text,
  told_at timestamptz not null default now()
);
create index facts_by_time on facts (told_at);

-- What the broker has not acknowledged yet. Live facts go before retold ones.
create table untold (
  retold boolean not null default false,
  seq bigint not null constraint untold_is_a_fact references facts (seq),
  primary key (retold, seq)
);

-- What this service knows of its own stream: a stranger in its place must be told everything again.
create table streams (
  name text primary key,
  incarnation text not null,
  sequence bigint not null
);

create table inbox (
  handler text not null,
  fact_id uuid not null,
  digest bigint not null,
  hour timestamptz not null,
  outcome text not null default 'done' check (outcome in ('done', 'buried')),
  heard_at timestamptz not null default now(),
  primary key (handler, fact_id)
);
create index inbox_by_hour on inbox (handler, hour);

-- How often a handler failed on one fact for a reason of its own, counted across restarts.
create table stumbles (
  handler text not null,
  fact_id uuid not null,
  tries int not null,
  reason text not null,
  primary key (handler, fact_id)
);

create table dead_letters (
  id bigint generated always as identity primary key,
  handler text not null,
  fact_id uuid not null,
  subject text not null,
  headers json not null,
  body bytea not null,
  reason text not null,
  buried_at timestamptz not null default now(),
  replayed_at timestamptz,
  constraint a_letter_is_buried_once unique (handler, fact_id)
);

-- The same id with other business fields: never a silent success.
create table contradictions (
  id bigint generated always as identity primary key,
  where_seen text not null,
  fact_id uuid not null,
  digest_known bigint not null,
  digest_heard bigint not null,
  seen_at timestamptz not null default now(),
  constraint a_contradiction_is_noted_once unique (where_seen, fact_id, digest_heard)
);

-- The row that makes a command happen once is also its audit row. Refusals are rows too, but use no id up.
create table commands (
  seq bigint generated always as identity primary key,
  id uuid not null,
  topic text not null,
  actor text not null,
  reason text,
  digest bigint not null,
  wanted json not null,
  outcome text not null check (outcome in ('done', 'refused')),
  answer json,
  obeyed_at timestamptz not null default now()
);
create unique index commands_happen_once on commands (id) where outcome = 'done';

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert on facts, contradictions to %I', app);
  execute format('grant select, insert, delete on untold to %I', app);
  execute format('grant select, insert, update on streams, inbox, commands, dead_letters to %I', app);
  execute format('grant select, insert, update, delete on stumbles to %I', app);
  execute format('grant delete on facts, inbox to %I', app);
  execute format('grant update on untold to %I', app);
end $$;
