-- What was told is held against what was heard, hour by hour: when, what differs, and what only the listener knows.

-- One replica compares a handler at a time: whoever moves `due_at` on has it. `whole_due_at` is the look at all 30 days.
create table comparisons (
  handler text primary key,
  due_at timestamptz not null default now() + interval '1 minute',
  whole_due_at timestamptz not null default now(),
  compared_at timestamptz not null default now()
);

-- An hour of which this handler lacks facts. The row goes when both sides agree again.
create table differences (
  handler text not null,
  hour timestamptz not null,
  missing int not null,
  tries int not null,
  tried_at timestamptz not null default now(),
  given_up_at timestamptz,
  primary key (handler, hour)
);

-- Heard, and unknown to the owner: an effect without a cause, for a person to decide.
create table strangers (
  handler text not null,
  fact_id uuid not null,
  hour timestamptz not null,
  noted_at timestamptz not null default now(),
  primary key (handler, fact_id)
);

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert, update, delete on comparisons, differences, strangers to %I', app);
end $$;
