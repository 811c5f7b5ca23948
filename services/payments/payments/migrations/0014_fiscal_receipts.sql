-- Receipts for the tax office (54-FZ) that a provider registers for us: one row per payment that
-- asked for one, per purchase from the balance that an advance paid for, and per refund of those.
-- A row that goes with a payment or a refund waits as `asked` until that is booked. An offset is
-- made by a worker: `waiting`. `registering`: the provider has it, and its registration is read.
create table fiscal_receipts (
  id uuid primary key,
  acquirer text not null,
  kind text not null check (kind in ('payment', 'offset', 'refund')),
  person uuid not null,
  order_id uuid,
  invoice uuid references invoices on delete cascade,
  -- The provider's payment that it belongs to, and the provider's object that tells its state.
  payment text,
  reference text,
  -- Its two items: a service that is paid in full, and an advance.
  service_minor bigint not null check (service_minor >= 0),
  advance_minor bigint not null check (advance_minor >= 0),
  -- What is left of an advance: neither offset by a purchase nor returned.
  rest_minor bigint not null default 0,
  item text not null check (length(item) between 1 and 128),
  subject text not null,
  vat_code int not null check (vat_code between 1 and 12),
  tax_system int check (tax_system between 1 and 6),
  -- The e-mail of the customer, until the provider has the receipt.
  email text,
  state text not null check (
    state in ('asked', 'waiting', 'registering', 'registered', 'failed')
  ),
  reason text,
  made_at timestamptz not null default shop_now(),
  -- The first try that may have made it. The provider keeps our key for a day from then on.
  asked_at timestamptz,
  due_at timestamptz not null default shop_now(),
  tries int not null default 0,
  claim uuid,
  constraint fiscal_receipts_have_an_amount check (service_minor + advance_minor > 0),
  constraint advances_are_used_once check (rest_minor between 0 and advance_minor),
  constraint failed_fiscal_receipts_have_a_reason check (state <> 'failed' or reason is not null),
  constraint registering_fiscal_receipts_have_a_reference check (
    state not in ('registering', 'registered') or reference is not null
  ),
  constraint offsets_have_an_order check (
    kind <> 'offset' or (order_id is not null and payment is not null)
  )
);
create unique index fiscal_receipts_by_invoice on fiscal_receipts (invoice);
create unique index one_fiscal_receipt_per_reference on fiscal_receipts (acquirer, kind, reference);
create unique index an_order_is_offset_once on fiscal_receipts (order_id) where kind = 'offset';
create index fiscal_receipts_by_payment on fiscal_receipts (acquirer, payment)
  where kind <> 'offset';
create index fiscal_receipts_due on fiscal_receipts (acquirer, due_at)
  where state in ('waiting', 'registering');
create index fiscal_receipts_failed on fiscal_receipts (made_at) where state = 'failed';
create index open_advances_by_person on fiscal_receipts (person, made_at, id) where rest_minor > 0;
create index fiscal_receipts_waiting on fiscal_receipts (made_at) where state = 'waiting';
create index fiscal_receipts_unpaid on fiscal_receipts (made_at) where state = 'asked';
create index fiscal_receipts_used_up on fiscal_receipts (made_at)
  where rest_minor = 0 and state in ('registered', 'failed');

do $$
begin
  execute format(
    'grant select, insert, update, delete on fiscal_receipts to %I', current_schema() || '_app'
  );
end $$;
