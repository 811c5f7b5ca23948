-- A screen may ask for something that is typed: the next message is the answer. Every other screen
-- takes its place, and ends the wait.
alter table people
  add column screen_awaits text,
  add constraint a_screen_awaits_a_known_answer check (screen_awaits in ('amount')),
  add constraint an_answer_is_awaited_on_a_screen
    check (screen_awaits is null or screen_id is not null);
