-- A payload begins with its order: the charged invoices of one order.
create index charged_holds_by_order on checkout_holds (left(payload, 32))
  where charged_at is not null;
