-- A card that Telegram charges is charged at the acquirer behind Telegram. Its receipt is that
-- acquirer's, under the acquirer's own id, as the listing shows it. This is Telegram's id of it.
-- The receipt is written later in the same transaction.
create table card_charges (
  charge text primary key,
  receipt uuid not null references receipts deferrable initially deferred,
  constraint card_charges_are_one_receipt_each unique (receipt)
);

-- From currencies.json: about a US dollar is the least. The most is YooKassa's for a card.
insert into ways (way, acquirer, currency, least_minor, most_minor, position)
values ('telegram', 'telegram_card', 'RUB', 6400, 35000000, 5);

do $$
begin
  execute format('grant select, insert on card_charges to %I', current_schema() || '_app');
end $$;
