-- A plan and its months stand in the data of a button, which Telegram limits to 64 bytes; a colon
-- separates its parts. The constants are those of shared/contracts/payments.py.
alter table plans
  add constraint plan_codes_fit_a_button check (plan ~ '^[a-z0-9_-]{1,24}$');

-- More than 100 000 Stars, or than a hundred million rubles, is a slip of the hand.
alter table prices
  add constraint months_fit_a_button check (months between 1 and 120),
  add constraint prices_can_be_charged check (stars <= 100000 and price_minor <= 10000000000);
