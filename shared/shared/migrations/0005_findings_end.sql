-- Conflicts and unknown events are dropped after a year, hours that differ after 90 days.
create index conflicts_by_time on conflicts (seen_at);
create index unknown_events_by_time on unknown_events (noted_at);
create index differences_by_hour on differences (hour);

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant delete on conflicts to %I', app);
end $$;
