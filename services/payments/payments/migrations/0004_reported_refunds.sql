-- Money that Telegram says it returned. A row is an alarm until refunds are booked.
create table reported_refunds (
  acquirer text not null,
  charge text not null,
  payer uuid,
  currency text not null,
  amount_minor bigint not null,
  payload text not null,
  refunded_at timestamptz not null,
  reported_at timestamptz not null default shop_now(),
  constraint refunds_happen_once_per_charge primary key (acquirer, charge)
);

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert on reported_refunds to %I', app);
end $$;
