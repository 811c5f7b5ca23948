-- An order that was undone, and that its person bought again by paying the debt: once.
alter table orders
  add column restores uuid references orders,
  add constraint an_order_is_restored_once unique (restores);

-- A refund that left something owed, and undid orders whole: they come back once it is paid.
-- `settled`: nothing was owed at some moment, and it is not decided yet what comes back.
create table debts (
  refund uuid primary key references refunds,
  person uuid not null,
  opened_at timestamptz not null default shop_now(),
  state text not null default 'open' check (state in ('open', 'settled', 'ended')),
  because text check (because in ('restored', 'short', 'bought_since', 'too_late')),
  constraint ended_debts_have_a_reason check ((state = 'ended') = (because is not null))
);
create index open_debts_by_person on debts (person, opened_at, refund) where state = 'open';
create index settled_debts_by_person on debts (person, opened_at, refund)
  where state = 'settled';
create index debts_by_time on debts (opened_at);

do $$
begin
  execute format(
    'grant select, insert, update, delete on debts to %I', current_schema() || '_app'
  );
end $$;
