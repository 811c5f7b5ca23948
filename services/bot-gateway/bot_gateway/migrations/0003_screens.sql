-- The one message of a chat that is edited in place, and the order that it offers to pay while it does.
alter table people
  add column screen_id bigint,
  add column screen_order uuid,
  add constraint an_order_is_offered_on_a_screen check (screen_order is null or screen_id is not null);
