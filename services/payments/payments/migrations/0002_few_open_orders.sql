-- A person has few open orders: a newer one supersedes them. Superseded and expired orders and
-- invoices are states, and orders that nobody paid for are pruned.
alter table orders
  drop constraint orders_state_check,
  add constraint orders_state_check
    check (state in ('open', 'superseded', 'closed', 'expired', 'paid')),
  -- Money came for it after its end: it is never pruned.
  add column kept boolean not null default false;

alter table invoices
  drop constraint invoices_state_check,
  add constraint invoices_state_check check (state in ('open', 'superseded', 'expired', 'paid'));

with ranked as (
  select id, row_number() over (partition by person order by placed_at desc, id desc) as nth
  from orders
  where state = 'open'
)
update orders o
set state = 'superseded'
from ranked r
where o.id = r.id and r.nth > 1;

update invoices i
set state = 'superseded'
from orders o
where o.id = i.order_id and o.state = 'superseded' and i.state = 'open';

-- Money that comes for these orders still buys. The newest ones of a person are read, so many at
-- most.
create index payable_orders_by_person on orders (person, placed_at, id)
  where state in ('open', 'superseded');
create index part_paid_orders_by_person on orders (person, placed_at, id)
  where state in ('open', 'superseded') and received_minor > 0;
drop index open_orders_by_person;

-- What expires next, and what is pruned next.
create index payable_orders_by_end on orders (honoured_until)
  where state in ('open', 'superseded');
create index unpaid_orders_by_end on orders (honoured_until)
  where state in ('closed', 'expired') and not kept;

-- An invoice that money came for is found, and is not deleted.
create index bookings_by_invoice on bookings (invoice);

do $$
begin
  execute format('grant delete on orders, invoices to %I', current_schema() || '_app');
end $$;
