-- An invoice may ask for what a part-paid order still lacks. It is worth less than the order then;
-- without a worth of its own it is worth the order's price.
alter table invoices
  add column worth_minor bigint,
  add constraint invoices_are_worth_something check (worth_minor > 0) not valid;
