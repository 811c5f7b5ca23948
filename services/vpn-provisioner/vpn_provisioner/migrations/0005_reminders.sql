-- Reminders before the end of access. `remind_at` is when the next step begins; null after the last
-- one. It is only when to look: the steps are decided from the end. A row that knows no time is
-- looked at once. A step that had begun when the end was set (`end_moved_at`) is not sent.
alter table subscriptions
  add column remind_at timestamptz default shop_now(),
  add column end_moved_at timestamptz not null default shop_now();
create index subscriptions_to_remind on subscriptions (remind_at) where state = 'live';
