-- What the order's person paid by this invoice, in its own units. The value of a part is the
-- difference that it makes to the value of this sum, so parts lose nothing by rounding.
alter table invoices
  add column received_minor bigint not null default 0,
  add constraint invoices_receive_nothing_negative check (received_minor >= 0);

update invoices i
set received_minor = paid.amount_minor
from (
  select b.invoice, sum(r.amount_minor) as amount_minor
  from bookings b
  join receipts r on r.id = b.receipt
  join invoices n on n.id = b.invoice and n.asked_currency = r.currency
  join orders o on o.id = n.order_id and o.person = r.payer
  where b.outcome <> 'suspense'
  group by b.invoice
) paid
where i.id = paid.invoice;
