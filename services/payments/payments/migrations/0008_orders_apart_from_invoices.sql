-- The ways to pay are data. A way without a provider's credentials is not offered, whatever it says
-- here. Amounts are in the smallest unit of the currency.
create table ways (
  way text primary key check (way ~ '^[a-z]{1,16}$'),
  acquirer text not null,
  currency text not null,
  least_minor bigint not null check (least_minor > 0),
  most_minor bigint not null,
  position int not null,
  on_sale boolean not null default true,
  constraint ways_have_a_range check (least_minor <= most_minor)
);

insert into ways (way, acquirer, currency, least_minor, most_minor, position)
values
  ('stars', 'telegram_stars', 'XTR', 1, 100000, 1),
  ('sbp', 'yookassa', 'RUB', 100, 70000000, 2),
  ('card', 'yookassa', 'RUB', 6400, 35000000, 3),
  ('crypto', 'cryptobot', 'RUB', 100, 35000000, 4);

-- An order says what is wanted: a subscription with its terms, or money in the wallet.
alter table orders
  drop constraint orders_what_check,
  add constraint orders_what_check check (what in ('subscription', 'topup')),
  alter column plan drop not null,
  alter column months drop not null,
  alter column devices drop not null,
  alter column node_group drop not null,
  alter column list_month_minor drop not null,
  add constraint subscriptions_have_terms check (
    (what = 'subscription') = (
      num_nulls(plan, months, devices, node_group, list_month_minor) = 0
    )
  ),
  -- The whole price in Stars, frozen beside the one in rubles.
  add column price_stars int check (price_stars > 0),
  -- The balance of the person counts for this order, not only what came for it.
  add column from_balance boolean not null default false,
  -- The event of a purchase that no receipt paid for.
  add column published_as uuid;

update orders o
set price_stars = i.asked_minor
from (
  select distinct on (order_id) order_id, asked_minor
  from invoices
  where worth_minor is null
  order by order_id, opened_at
) i
where i.order_id = o.id;

-- Invoices are ways to pay for an order. `asking`: the provider has not told its reference yet.
alter table invoices
  drop constraint invoices_way_check,
  add constraint invoices_go_a_known_way foreign key (way) references ways,
  drop constraint invoices_state_check,
  add constraint invoices_state_check
    check (state in ('asking', 'open', 'superseded', 'expired', 'paid')),
  add column acquirer text not null default 'telegram_stars',
  add column reference text,
  add column pay_url text;
alter table invoices alter column acquirer drop default;
create unique index invoices_have_one_reference on invoices (acquirer, reference)
  where reference is not null;

-- An order supersedes and closes only orders of its own kind.
create index payable_orders_by_kind on orders (person, what, placed_at, id)
  where state in ('open', 'superseded');
create index paid_orders_by_kind on orders (person, what, placed_at, id) where state = 'paid';
drop index payable_orders_by_person;
drop index paid_orders_by_person;

do $$
begin
  execute format('grant select on ways to %I', current_schema() || '_app');
end $$;
