-- Money that was returned: one row per charge and acquirer's refund, for ever. It waits until its
-- receipt is booked. `booked_minor` is at most what was left of the receipt.
create table refunds (
  id uuid primary key,
  receipt uuid not null,
  acquirer text not null,
  charge text not null,
  reference text not null,
  payer uuid,
  currency text not null,
  amount_minor bigint not null check (amount_minor > 0),
  refunded_at timestamptz not null,
  trace text,
  reported_at timestamptz not null default shop_now(),
  state text not null default 'waiting' check (state in ('waiting', 'booked')),
  booked_minor bigint check (booked_minor between 0 and amount_minor),
  value_minor bigint check (value_minor >= 0),
  owed_minor bigint check (owed_minor between 0 and value_minor),
  published_as uuid,
  booked_at timestamptz,
  constraint refunds_happen_once_per_reference unique (acquirer, charge, reference),
  constraint booked_refunds_have_a_booking check (
    (state = 'booked') = (num_nulls(booked_minor, value_minor, owed_minor, booked_at) = 0)
  )
);
create index refunds_by_receipt on refunds (receipt);
create index refunds_waiting on refunds (reported_at) where state = 'waiting';
create index refunds_by_time on refunds (booked_at, id) where state = 'booked';

-- What was returned of a receipt, in its own currency. The row is the lock of its refunds.
create table refunded_receipts (
  receipt uuid primary key references receipts,
  amount_minor bigint not null,
  returned_minor bigint not null default 0,
  constraint no_more_is_returned_than_was_paid check (returned_minor between 0 and amount_minor)
);

-- An order may be undone in shares, and is undone once.
alter table orders
  drop constraint orders_state_check,
  add constraint orders_state_check check (
    state in ('open', 'superseded', 'closed', 'expired', 'paid', 'partly_refunded', 'refunded')
  ),
  drop constraint paid_orders_have_a_time,
  add constraint paid_orders_have_a_time check (
    (state in ('paid', 'partly_refunded', 'refunded')) = (paid_at is not null)
  ),
  add column undone_minor bigint not null default 0,
  add constraint refunded_orders_are_undone check (
    case state
      when 'refunded' then undone_minor = price_minor
      when 'partly_refunded' then undone_minor > 0 and undone_minor < price_minor
      else undone_minor = 0
    end
  );

-- The share of an order that a refund undid. The id is that of the transfer that returned it.
create table undone_orders (
  id uuid primary key references transfers,
  refund uuid not null references refunds,
  order_id uuid not null references orders,
  undone_minor bigint not null check (undone_minor > 0),
  booked_at timestamptz not null default shop_now(),
  constraint a_refund_undoes_an_order_once unique (refund, order_id)
);
create index undone_orders_by_order on undone_orders (order_id);
create index undone_orders_by_time on undone_orders (booked_at, id);

-- A newer paid order closes and supersedes older ones, also after it was refunded.
create index bought_orders_by_kind on orders (person, what, placed_at, id)
  where paid_at is not null;
drop index paid_orders_by_kind;

-- The orders of a person that the balance paid for, the newest first: a refund looks at a few.
create index orders_paid_by_balance on orders (person, paid_at, id)
  where what = 'subscription'
    and state in ('paid', 'partly_refunded')
    and received_minor < price_minor;

alter table transfers
  drop constraint transfers_reason_check,
  add constraint transfers_reason_check check (
    reason in (
      'receipt', 'purchase', 'reward', 'owed_settled', 'purchase_undone', 'refund',
      'reward_reversed'
    )
  );

-- Nothing was released with these rows. bot-gateway keeps its reports for 30 days.
drop table reported_refunds;

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert, update on refunds, refunded_receipts to %I', app);
  execute format('grant select, insert on undone_orders to %I', app);
end $$;
