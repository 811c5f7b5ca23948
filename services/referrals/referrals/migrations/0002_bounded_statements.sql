-- Indexes in the order of time, for pages of the audit and of keys.
create index rewards_by_time on rewards (decided_at, receipt);
create index invitations_by_time on invitations (at, invitee);
create index people_by_time on people (started_at, person);

-- The decision before each one, and the last one, of a partner.
create index rewards_by_turn on rewards (partner, seq) include (paying, reward_minor)
where paying is not null;
drop index rewards_by_partner;

create index waiting_by_time on waiting (waits_since);
create index waiting_by_receipt on waiting ((body #>> '{received,receipt}'));
create index refusals_by_time on refusals (refused_at, event);

-- The totals that a partner sees. `earned_minor` is written under the lock of the partner's row.
-- The invited people have a table of their own: only starts write it, one batch at a time.
alter table partners
  add column earned_minor bigint not null default 0
  constraint a_partner_earns_no_debt check (earned_minor >= 0);

update partners p
set earned_minor = r.earned_minor
from (
  select partner, sum(reward_minor) as earned_minor
  from rewards
  where partner is not null
  group by partner
) r
where r.partner = p.person;

create table invited (
  partner uuid primary key,
  people bigint not null
);

insert into invited (partner, people)
select partner, count(*)
from people
where partner is not null
group by partner;

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant update (earned_minor) on partners to %I', app);
  execute format('grant select, insert, update on invited to %I', app);
  execute format('grant delete on refusals to %I', app);
end $$;
