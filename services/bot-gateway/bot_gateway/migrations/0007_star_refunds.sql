-- Stars that payments asked to return: one row per command, whose id it has. `held_until` is the
-- end of the lease of `holder`, or of a pause after a failed try. The Telegram id of the payer is
-- looked up at each try: it stays in `people` only.
create table star_refunds (
  id uuid primary key,
  charge text not null,
  payer uuid,
  state text not null default 'waiting' check (state in ('waiting', 'done', 'refused')),
  reason text,
  tries int not null default 0,
  holder uuid,
  held_until timestamptz not null default shop_now(),
  asked_at timestamptz not null default shop_now(),
  ended_at timestamptz,
  constraint an_ended_refund_has_its_time check ((state = 'waiting') = (ended_at is null))
);
create index star_refunds_waiting on star_refunds (held_until) where state = 'waiting';
create index star_refunds_ended on star_refunds (ended_at) where ended_at is not null;

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert, update, delete on star_refunds to %I', app);
end $$;
