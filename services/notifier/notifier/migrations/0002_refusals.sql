-- A 429 pauses its chat. If another chat is refused before the first may be tried again, the limit
-- is the bot's, and the bucket pauses.
alter table recipients add column paused_until timestamptz;
alter table buckets add column refused_person uuid, add column refused_until timestamptz;

-- Answers that do not say whether the message arrived.
alter table deliveries add column unclear int not null default 0;

-- One index for each question about the messages of one person: none reads all of them. The order
-- of a chat's messages is complete, so the first one is found without a sort.
drop index deliveries_by_turn;
create index deliveries_by_turn
on deliveries (person, priority, rank desc, occurred_at, position, id)
where state in ('waiting', 'claimed');
create index deliveries_by_time on deliveries (person, not_before) where state = 'waiting';
create index deliveries_claimed on deliveries (person) where state = 'claimed';
create index deliveries_unreachable on deliveries (person, kind, written_at)
where state = 'unreachable';

-- A time to wait for. No pause is longer than half an hour: a later time was written before the
-- clock stepped back, and nothing waits for it.
create function soon(at timestamptz) returns timestamptz
language sql
stable
return case when at > shop_now() + interval '30 minutes' then shop_now() else at end;
