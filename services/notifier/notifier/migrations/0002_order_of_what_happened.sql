-- Messages of a chat go out in the order of what happened: by the moment of the fact, and by its place in that moment.
-- What waits from before has no such moment; it goes out in the order of its ids, as it would have.
alter table deliveries
  add column told_at timestamptz not null default now(),
  add column place int not null default 0;

drop index deliveries_by_turn;
create index deliveries_by_turn on deliveries (person, lane, rank desc, told_at, place)
where state in ('waiting', 'claimed');
