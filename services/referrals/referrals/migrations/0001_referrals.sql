-- Everybody who started. No row means "not yet"; a row without a partner means "no reward". A row
-- never changes.
create table people (
  person uuid primary key,
  partner uuid,
  started_at timestamptz not null,
  constraint no_person_invites_themselves check (partner <> person)
);
create index people_by_partner on people (partner) where partner is not null;

-- Why a person who named a partner was not bound to them.
create table refusals (
  event uuid primary key,
  person uuid not null,
  invited_by uuid,
  reason text not null check (reason in ('code_unknown', 'oneself', 'loop', 'started_before')),
  refused_at timestamptz not null default shop_now()
);

-- The states of an invitation: each row is the step into one, with its cause and time.
create table invitations (
  invitee uuid not null references people,
  state text not null,
  follows text,
  cause text not null,
  at timestamptz not null default shop_now(),
  primary key (invitee, state),
  constraint an_invitation_moves_forward check (
    state = 'registered' and follows is null
    or state = 'activated' and follows is not null and follows = 'registered'
  ),
  constraint a_step_follows_a_reached_state
    foreign key (invitee, follows) references invitations (invitee, state),
  constraint a_state_is_left_once unique nulls not distinct (invitee, follows)
);

-- The lock on a partner's row decides their level. The audit counts `paying` again.
create table partners (
  person uuid primary key,
  fixed_percent int check (fixed_percent between 0 and 100),
  paying int not null default 0 check (paying >= 0)
);

-- The percent of a partner, by the number of paying invitees. The newest scale applies. An old one
-- is never edited, so every reward can be recomputed for ever. These figures are the defaults.
create table levels (
  scale int not null,
  paying_from int not null check (paying_from >= 0),
  percent int not null check (percent between 0 and 100),
  primary key (scale, paying_from)
);

insert into levels (scale, paying_from, percent) values (1, 0, 10), (1, 25, 25), (1, 50, 45);

-- The decision about each receipt, once for ever. `seq` is the order of the decisions: the audit
-- recomputes the counts by it.
create table rewards (
  receipt uuid primary key,
  seq bigint generated always as identity,
  payer uuid not null references people,
  value_minor bigint not null check (value_minor >= 0),
  outcome text not null check (
    outcome in ('rewarded', 'below_a_kopeck', 'no_partner', 'partner_gone')
  ),
  partner uuid,
  paying int,
  scale int,
  percent int,
  reward_minor bigint not null,
  published_as uuid,
  decided_at timestamptz not null default shop_now(),
  constraint the_partner_is_not_the_payer check (partner <> payer),
  constraint a_partner_is_named_unless_there_is_none check (
    (outcome = 'no_partner') = (partner is null)
  ),
  constraint a_percent_has_its_count check (
    (outcome in ('rewarded', 'below_a_kopeck')) = (percent is not null)
    and (percent is not null) = (paying is not null)
    and (scale is null or percent is not null)
  ),
  constraint a_reward_is_the_floor_of_its_percent check (
    reward_minor = coalesce(value_minor * percent / 100, 0)
  ),
  constraint a_reward_is_positive check ((outcome = 'rewarded') = (reward_minor > 0)),
  constraint a_reward_has_its_event check (
    (outcome = 'rewarded') = (published_as is not null)
  )
);
create index rewards_by_partner on rewards (partner) include (reward_minor)
where partner is not null;

-- Payments that came before the start of their payer. The start takes them.
create table waiting (
  event uuid primary key,
  payer uuid not null,
  body json not null,
  trace text,
  waits_since timestamptz not null default shop_now()
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
