-- Who may use the VPN until when, and how far the nodes agree.

-- Purchases as payments booked them: a subscription is the fold of its person's rows.
-- Never edited, never deleted.
create table periods (
  order_id uuid constraint an_order_buys_one_period primary key,
  person uuid not null,
  booked_at timestamptz not null,
  plan text not null,
  months int not null constraint a_period_is_one_to_120_months check (months between 1 and 120),
  devices int not null,
  traffic_bytes bigint,
  node_group text not null,
  list_month_minor int not null
    constraint a_list_price_is_not_negative check (list_month_minor >= 0),
  handled_at timestamptz not null default shop_now()
);
create index periods_by_person on periods (person);

-- Each bought order is announced once, when the nodes agree. Until then `announced_at` is null.
create table grants (
  order_id uuid constraint an_order_is_granted_once primary key
    constraint a_grant_belongs_to_a_period references periods (order_id),
  person uuid not null,
  trace text,
  announced_at timestamptz
);
create index grants_to_announce on grants (person) where announced_at is null;

-- live ──the end passes──▶ ending ──every node confirmed the removal──▶ ended
-- A purchase makes it live from any state.
create table subscriptions (
  person uuid constraint a_person_has_one_subscription primary key,
  key uuid not null constraint a_key_belongs_to_one_person unique,
  plan text not null,
  devices int not null,
  traffic_bytes bigint,
  node_group text not null,
  ends_at timestamptz not null,
  state text not null constraint a_subscription_is_live_ending_or_ended
    check (state in ('live', 'ending', 'ended')),
  begun_at timestamptz not null default shop_now()
);
create index subscriptions_due on subscriptions (ends_at) where state = 'live';
create index subscriptions_by_group on subscriptions (node_group, person) where state = 'live';

-- `put_back_after` is the last person that was put back into this incarnation. It is null when
-- nobody is left to put back. `missing` and `unwanted` are the drift at the last comparison.
create table nodes (
  id uuid primary key,
  name text not null constraint a_node_has_a_unique_name unique,
  kind text not null constraint a_node_has_a_known_kind check (kind in ('xray')),
  node_group text not null,
  address text not null,
  inbound text not null,
  link_template text not null,
  capacity int not null constraint a_node_has_capacity check (capacity > 0),
  state text not null default 'serving' constraint a_node_serves_or_is_retired
    check (state in ('serving', 'retired')),
  added_at timestamptz not null default shop_now(),
  incarnation text,
  put_back_after uuid,
  compared_at timestamptz,
  missing int not null default 0,
  unwanted int not null default 0,
  constraint a_node_is_listed_once unique (address, inbound)
);

-- The state that a node is to hold for a person. It is absolute, so asking again is harmless.
-- `generation` rises when another state is wanted or the node lost the user. Only an answer to the
-- newest generation counts. `run_at` is the time from which the job may be claimed, and the end of
-- the lease while it is claimed (`claim`). `agreed_at` is the last verification of this presence
-- or absence.
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
  run_at timestamptz not null default shop_now(),
  claim uuid,
  agreed_at timestamptz,
  error text,
  trace text,
  constraint a_person_has_one_job_on_a_node primary key (person, node),
  constraint an_agreed_job_was_verified check (state <> 'agreed' or agreed_at is not null)
);
create index access_jobs_due on access_jobs (node, (tries > 0), run_at) where state = 'waiting';
create index access_jobs_dead on access_jobs (node) where state = 'dead';
create index access_jobs_by_node on access_jobs (node, person);

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert on periods to %I', app);
  execute format('grant select, insert, update on grants, subscriptions to %I', app);
  execute format('grant select, insert, update on nodes, access_jobs to %I', app);
end $$;
