-- The walk over Telegram's listing of Stars, one row per bot. `walked` transactions were read, the
-- oldest first; `last_key` is the last of them, and `listed_nanostars` their sum, unless one could
-- not be read. Older ones than `since` were paid to an earlier program, or are older than the
-- events here. `holder` walks until `held_until`; without a holder that is the end of a pause. The
-- next walk begins at `due_at`. `gap_nanostars` is the balance less the sum, when compared last.
create table star_walks (
  bot bigint primary key,
  since timestamptz not null,
  walked bigint not null default 0 constraint a_walk_never_goes_below_zero check (walked >= 0),
  last_key text,
  listed_nanostars numeric not null default 0,
  is_exact boolean not null default true,
  gap_nanostars numeric,
  gap_changed_at timestamptz,
  holder uuid,
  held_until timestamptz not null default shop_now(),
  due_at timestamptz not null default shop_now(),
  walked_at timestamptz not null default shop_now(),
  constraint a_place_has_its_last_transaction check ((walked = 0) = (last_key is null)),
  constraint a_gap_has_its_time check ((gap_nanostars is null) = (gap_changed_at is null))
);

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert, update on star_walks to %I', app);
end $$;
