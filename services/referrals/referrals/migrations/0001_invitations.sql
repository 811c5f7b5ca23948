-- Everybody who started: no row means "not yet", a row without a partner means "no reward". Nothing here ever changes.
create table people (
  person uuid primary key,
  partner uuid,
  started_at timestamptz not null,
  constraint nobody_invites_himself check (partner <> person)
);
create index people_by_partner on people (partner) where partner is not null;

-- Why somebody who named a partner was not bound to him.
create table refusals (
  fact uuid primary key,
  person uuid not null,
  invited_by uuid,
  reason text not null check (reason in ('code_unknown', 'oneself', 'loop', 'started_before')),
  refused_at timestamptz not null default now()
);

-- The states of an invitation: each row is the step into one, with its cause and time.
create table invitations (
  invitee uuid not null references people,
  state text not null,
  follows text,
  cause text not null,
  at timestamptz not null default now(),
  primary key (invitee, state),
  constraint an_invitation_moves_forward check (
    state = 'registered' and follows is null
    or state = 'activated' and follows is not null and follows = 'registered'
  ),
  constraint a_step_follows_a_state_that_was_reached
    foreign key (invitee, follows) references invitations (invitee, state),
  constraint a_state_is_left_once unique nulls not distinct (invitee, follows)
);

-- The row whose lock decides a partner's level. `paying` is recounted by the audit.
create table partners (
  person uuid primary key,
  fixed_percent int check (fixed_percent between 0 and 100),
  paying int not null default 0 check (paying >= 0)
);

-- From how many paying invitees a partner earns how much. The newest scale counts; an old one is never edited, so that
-- every reward can be recomputed for ever. The figures are the shipped defaults.
create table levels (
  scale int not null,
  paying_from int not null check (paying_from >= 0),
  percent int not null check (percent between 0 and 100),
  primary key (scale, paying_from)
);

insert into levels (scale, paying_from, percent) values (1, 0, 10), (1, 25, 25), (1, 50, 45);

-- What was decided about each receipt, once for ever. `seq` is the order of deciding: by it the counts are recomputed.
create table rewards (
  receipt uuid primary key,
  seq bigint generated always as identity,
  payer uuid not null references people,
  value_minor bigint not null check (value_minor >= 0),
  outcome text not null check (outcome in ('rewarded', 'below_a_kopeck', 'no_partner', 'partner_gone')),
  partner uuid,
  paying int,
  scale int,
  percent int,
  reward_minor bigint not null,
  told_as uuid,
  decided_at timestamptz not null default now(),
  constraint no_partner_rewards_himself check (partner <> payer),
  constraint only_without_a_partner_none_is_named check ((outcome = 'no_partner') = (partner is null)),
  constraint a_percent_stands_beside_its_count check (
    (outcome in ('rewarded', 'below_a_kopeck')) = (percent is not null)
    and (percent is not null) = (paying is not null)
    and (scale is null or percent is not null)
  ),
  constraint a_reward_is_the_floor_of_its_percent check (reward_minor = coalesce(value_minor * percent / 100, 0)),
  constraint a_reward_is_more_than_nothing check ((outcome = 'rewarded') = (reward_minor > 0)),
  constraint a_reward_is_told check ((outcome = 'rewarded') = (told_as is not null))
);
create index rewards_by_partner on rewards (partner) include (reward_minor) where partner is not null;

-- Payments that came before their payer's start: turned over by it.
create table waiting (
  fact uuid primary key,
  payer uuid not null,
  body json not null,
  trace text,
  waits_since timestamptz not null default now()
);
create index waiting_by_payer on waiting (payer);

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert on people, refusals, invitations, rewards to %I', app);
  execute format('grant select, insert (person), update (paying) on partners to %I', app);
  execute format('grant select, insert, delete on waiting to %I', app);
  execute format('grant select on levels to %I', app);
end $$;
