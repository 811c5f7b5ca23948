"""The tables of the state, and its longer queries."""

FIRST_INVOICE = 41_000_001  # Invoices of all apps share one sequence, so ours begins anywhere.
FIRST_TRANSFER = 7_100_001

SCHEMA = """
create table if not exists invoices (
  invoice_id integer primary key autoincrement,
  hash text not null unique,
  asset text,
  fiat text,
  draft text not null,
  created_at_ms integer not null,
  expires_at_ms integer,
  payment text,
  constraint an_invoice_has_one_currency check ((asset is null) <> (fiat is null))
);
create table if not exists balances (
  asset text primary key,
  available_units integer not null
    constraint a_balance_never_goes_below_zero check (available_units >= 0)
    constraint a_balance_is_a_whole_number check (typeof(available_units) = 'integer')
) without rowid;
create table if not exists rates (
  asset text primary key,
  usd text not null,
  is_valid integer not null
) without rowid;
create table if not exists people (user_id integer primary key) without rowid;
create table if not exists transfers (
  transfer_id integer primary key autoincrement,
  spend_id text not null constraint a_spend_id_moves_money_once unique,
  user_id integer not null,
  asset text not null,
  amount_units integer not null,
  comment text,
  completed_at_ms integer not null
);
create table if not exists notices (
  number integer primary key autoincrement,
  invoice_id integer not null,
  due_at_ms integer not null,
  attempts integer not null default 0
);
create index if not exists notices_by_time on notices (due_at_ms);
create table if not exists webhook_failures (at_ms integer not null);
"""

_INVOICES_OF = """
select * from {table}
where (:asset is null or asset = :asset)
  and (:fiat is null or fiat = :fiat)
  and (:status is not 'paid' or payment is not null)
  and (:status is not 'active'
       or (payment is null and (expires_at_ms is null or expires_at_ms > :now_ms)))
order by invoice_id desc
limit :count offset :offset
"""
INVOICES = _INVOICES_OF.format(table="invoices")
INVOICES_OF_IDS = _INVOICES_OF.format(
    table="(select * from invoices where invoice_id in (select value from json_each(:ids)))"
)

TRANSFERS = """
select * from transfers
where (:asset is null or asset = :asset)
  and (:spend_id is null or spend_id = :spend_id)
  and (:ids is null or transfer_id in (select value from json_each(:ids)))
order by transfer_id desc
limit :count offset :offset
"""
