-- A command of an operator is an act: its row also holds the role of the operator, and the changed
-- thing before and after. Acts are the audit log and are kept for ever; other commands are dropped.
alter table commands
  add column role text,
  add column before json,
  add column after json,
  add constraint refusals_change_nothing
    check (outcome = 'done' or before::text is not distinct from after::text) not valid;

-- The newest acts, and the newest acts that concern a person, among many commands of people.
create index acts_by_number on commands (seq) where role is not null;
create index acts_about_a_person on commands ((request ->> 'person'), seq) where role is not null;

create index dropped_commands_by_time on commands (executed_at) where role is null;
drop index commands_by_time;
