-- The share of an order that a refund undid, `undone_minor` of `price_minor`. It may come first.
-- Never edited, never deleted.
create table shortenings (
  id uuid primary key,
  refund uuid not null,
  order_id uuid not null,
  person uuid not null,
  undone_minor bigint not null,
  price_minor bigint not null,
  handled_at timestamptz not null default shop_now(),
  constraint a_refund_shortens_an_order_once unique (refund, order_id),
  constraint a_share_is_part_of_the_price check (undone_minor between 1 and price_minor)
);
create index shortenings_by_person on shortenings (person);
create index shortenings_by_order on shortenings (order_id);
create index shortenings_by_time on shortenings (handled_at, id);

-- The order was undone before it was granted: it is not announced.
alter table grants add column withdrawn boolean not null default false;

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert on shortenings to %I', app);
end $$;
