-- Indexes in the order of time, for pages of the audit and for the gauges of the intake.
create index people_by_time on people (started_at, person);
create index updates_reported on updates (received_at, seq) where lane = 'money';
create index updates_set_aside on updates (lane, received_at) where state = 'failed';
drop index updates_failed;

-- Full buckets are dropped in pages.
create index buckets_by_time on buckets (filled_at);
