-- Indexes in the order of time, for pages of the audit and of keys.
create index periods_by_time on periods (handled_at, order_id);
create index grants_by_time on grants (announced_at, order_id) where announced_at is not null;

-- Jobs of people who left: the node has confirmed their absence, and they are dropped by its age.
create index access_jobs_gone on access_jobs (agreed_at) where state = 'agreed' and not present;

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant delete on access_jobs to %I', app);
end $$;
