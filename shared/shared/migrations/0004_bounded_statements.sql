-- Old rows are found by an index, however many young ones there are. A BRIN index of a table from
-- which old rows are dropped degrades: new rows take their pages.
drop index inbox_by_age;

create index commands_by_time on commands (executed_at);
create index dead_letters_open on dead_letters (id) where replayed_at is null;
create index dead_letters_replayed on dead_letters (replayed_at) where replayed_at is not null;

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant delete on commands, dead_letters to %I', app);
end $$;
