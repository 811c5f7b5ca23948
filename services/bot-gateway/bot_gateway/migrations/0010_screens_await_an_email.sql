-- A screen may ask for an e-mail. Before an invoice it names the way to pay for which it is asked.
alter table people
  drop constraint a_screen_awaits_a_known_answer,
  add constraint a_screen_awaits_a_known_answer
    check (screen_awaits ~ '^(amount|email(:[a-z0-9]{1,16}(:rest)?)?)$');
