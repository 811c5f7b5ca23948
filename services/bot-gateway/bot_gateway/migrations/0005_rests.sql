-- Telegram's "too many requests": the chat that was refused last and until when, and until when nobody is written to.
alter table buckets
  add column refused_chat bigint,
  add column refused_until timestamptz,
  add column rests_until timestamptz;
