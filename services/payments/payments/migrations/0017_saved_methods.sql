-- Cards and accounts that people asked the shop to remember, by the acquirer's own id of each. The
-- id charges without its payer: it stays in this table, and in the calls that charge it.
create table saved_methods (
  -- Derived from the invoice that saved it.
  id uuid primary key,
  -- What buttons name it by. Shorter than the id, since a button holds 64 bytes.
  name text not null check (name ~ '^s[0-9a-f]{6}$'),
  person uuid not null,
  acquirer text not null,
  method text not null check (length(method) between 1 and 64),
  way text not null,
  -- As the acquirer shows it. It is a text of outside.
  title text not null check (length(title) <= 40),
  saved_at timestamptz not null default shop_now(),
  used_at timestamptz not null default shop_now()
);
create unique index methods_are_saved_once on saved_methods (acquirer, method);
create unique index saved_methods_by_name on saved_methods (person, name);
create index saved_methods_by_person on saved_methods (person, saved_at, id);
create index saved_methods_by_use on saved_methods (used_at);

alter table invoices
  -- The payer agreed that the acquirer saves the method that pays this invoice. It is part of what
  -- is asked, and never changes.
  add column saves_method boolean not null default false,
  -- When that consent was used: one consent saves one method.
  add column method_saved_at timestamptz,
  -- The saved method that this invoice charges, also after it was forgotten.
  add column saved_method uuid;
create index invoices_that_charge on invoices (order_id, opened_at) where saved_method is not null;

do $$
begin
  execute format(
    'grant select, insert, update, delete on saved_methods to %I', current_schema() || '_app'
  );
end $$;
