-- Indexes in the order of time, for pages of the audit and of keys, and for pruning.
create index deliveries_by_written_time on deliveries (written_at, id);
create index deliveries_lost on deliveries (settled_at, id) where state in ('failed', 'unknown');

-- A key or a receipt that was sent later makes good one that was given up.
create index deliveries_sent on deliveries (person, kind, settled_at)
where state = 'sent'
  and kind in ('paid_issuing', 'access_ready', 'topped_up', 'missing', 'left_over');

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant delete on deliveries to %I', app);
end $$;
