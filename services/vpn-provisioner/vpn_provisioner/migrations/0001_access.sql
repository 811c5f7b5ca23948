-- Who may use the VPN until when, and how far the nodes agree.

-- What was bought, as the book tells it: the rows that a subscription is the fold of. Never edited, never deleted.
create table periods (
  order_id uuid constraint an_order_buys_one_period primary key,
  person uuid not null,
  booked_at timestamptz not null,
  plan text not null,
  months int not null constraint a_period_is_one_to_120_months check (months between 1 and 120),
  devices int not null,
  traffic_bytes bigint,
  node_group text not null,
  list_month_minor int not null constraint a_list_price_is_not_negative check (list_month_minor >= 0),
  heard_at timestamptz not null default now()
);
create index periods_by_person on periods (person);

-- Each bought order is told of once, when the nodes agree: until then `told_at` is empty.
create table grants (
  order_id uuid constraint an_order_is_granted_once primary key
    constraint a_grant_is_of_a_period references periods (order_id),
  person uuid not null,
  trace text,
  told_at timestamptz
);
create index grants_not_told on grants (person) where told_at is null;

-- live ──the end passes──▶ ending ──every node confirmed the removal──▶ ended;  a purchase makes it live from anywhere.
create table subscriptions (
  person uuid constraint a_person_has_one_subscription primary key,
  key uuid not null constraint a_key_lets_one_person_in unique,
  plan text not null,
  devices int not null,
  traffic_bytes bigint,
  node_group text not null,
  ends_at timestamptz not null,
  state text not null constraint a_subscription_is_live_ending_or_ended check (state in ('live', 'ending', 'ended')),
  begun_at timestamptz not null default now()
);
create index subscriptions_due on subscriptions (ends_at) where state = 'live';
create index subscriptions_by_group on subscriptions (node_group, person) where state = 'live';

-- `put_back_after` is how far its people were put back in this incarnation; empty when nobody is left to put back.
-- `missing` and `strangers` are what the last look found, both ways.
create table nodes (
  id uuid primary key,
  name text not null constraint a_node_has_a_name_of_its_own unique,
  kind text not null constraint a_node_is_of_a_kind_we_speak_with check (kind in ('xray')),
  node_group text not null,
  address text not null,
  inbound text not null,
  link_template text not null,
  capacity int not null constraint a_node_has_room_for_somebody check (capacity > 0),
  state text not null default 'serving' constraint a_node_serves_or_is_retired check (state in ('serving', 'retired')),
  added_at timestamptz not null default now(),
  incarnation text,
  put_back_after uuid,
  looked_at timestamptz,
  missing int not null default 0,
  strangers int not null default 0,
  constraint a_node_is_listed_once unique (address, inbound)
);

-- What a node is to hold for a person: absolute, so asking again is harmless. `generation` rises whenever something else
-- is wanted or the node lost it; only an answer to the newest generation counts. `run_at` is when the job may be taken,
-- and while it is taken (`claim`) the end of the lease. `agreed_at` is the last verification of this presence or absence.
create table access_jobs (
  person uuid not null,
  node uuid not null constraint a_job_is_for_a_node references nodes (id),
  key uuid not null,
  until timestamptz not null,
  devices int,
  traffic_bytes bigint,
  present boolean not null,
  generation bigint not null default 1,
  state text not null default 'waiting' constraint a_job_waits_agrees_or_is_dead
    check (state in ('waiting', 'agreed', 'dead')),
  tries int not null default 0,
  run_at timestamptz not null default now(),
  claim uuid,
  agreed_at timestamptz,
  error text,
  trace text,
  constraint a_person_has_one_job_on_a_node primary key (person, node),
  constraint what_is_agreed_was_verified check (state <> 'agreed' or agreed_at is not null)
);
create index access_jobs_due on access_jobs (node, (tries > 0), run_at) where state = 'waiting';
create index access_jobs_dead on access_jobs (node) where state = 'dead';
create index access_jobs_by_node on access_jobs (node, person);

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert on periods to %I', app);
  execute format('grant select, insert, update on grants, subscriptions, nodes, access_jobs to %I', app);
end $$;
