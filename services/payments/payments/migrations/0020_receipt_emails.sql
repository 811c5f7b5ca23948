-- The e-mail that a person gave for receipts of the tax office. Null: the person was asked and gave
-- none, so the operator's is used. Apart from the ledger, and deletable.
create table receipt_emails (
  person uuid primary key,
  email text check (length(email) between 3 and 254),
  answered_at timestamptz not null default shop_now()
);

do $$
begin
  execute format(
    'grant select, insert, update, delete on receipt_emails to %I', current_schema() || '_app'
  );
end $$;
