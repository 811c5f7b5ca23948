-- What operators change by commands: balances, prices, plans, rates, ways to pay, parked receipts.
-- The reasons are those of all versions: a later list must not forget an earlier one.
alter table transfers
  drop constraint transfers_reason_check,
  add constraint transfers_reason_check check (
    reason in (
      'receipt', 'fee', 'purchase', 'reward', 'owed_settled', 'purchase_undone', 'refund',
      'reward_reversed', 'adjustment', 'resolution'
    )
  );

-- Every price that was ever in force, also one that was edited by hand. The present one is in
-- `prices`: the price shown is the price charged.
create table price_versions (
  plan text not null,
  months int not null,
  from_at timestamptz not null,
  price_minor bigint not null,
  stars int not null,
  primary key (plan, months, from_at)
);
insert into price_versions (plan, months, from_at, price_minor, stars)
select plan, months, shop_now(), price_minor, stars from prices;

-- As the owner of the schema: the service reads the versions and cannot rewrite them. The row of
-- the price is locked, so the clock orders the versions as the changes were made.
create function keep_price_version() returns trigger
language plpgsql
security definer
set search_path from current
as $$
begin
  insert into price_versions (plan, months, from_at, price_minor, stars)
  values (new.plan, new.months, shop_clock(), new.price_minor, new.stars);
  return null;
end $$;

create trigger prices_keep_their_versions
after insert or update on prices
for each row execute function keep_price_version();

-- A parked receipt that an operator gave to a person or to an order: once, for ever. The booking
-- stays as it was; the transfer of the resolution has the same cause.
create table resolutions (
  receipt uuid primary key references bookings,
  person uuid not null,
  order_id uuid references orders,
  outcome text not null check (outcome in ('bought', 'wallet')),
  because text not null,
  value_minor bigint not null check (value_minor >= 0),
  published_as uuid not null,
  act uuid not null,
  resolved_at timestamptz not null default shop_now(),
  constraint only_orders_buy check (outcome = 'wallet' or order_id is not null)
);
create index resolutions_by_time on resolutions (resolved_at, receipt);
create index resolutions_by_order on resolutions (order_id);
create index parked_bookings on bookings (booked_at, receipt) where outcome = 'suspense';

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant update (on_sale, devices, traffic_bytes) on plans to %I', app);
  execute format('grant insert, update (price_minor, stars) on prices to %I', app);
  execute format('grant insert on rates to %I', app);
  execute format('grant update (on_sale, least_minor, most_minor) on ways to %I', app);
  execute format('grant select on price_versions to %I', app);
  execute format('grant select, insert on resolutions to %I', app);
end $$;
