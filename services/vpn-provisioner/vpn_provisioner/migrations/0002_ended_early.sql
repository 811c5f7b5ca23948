-- Subscriptions that ended although their end lies ahead: a clock was ahead of the others.
create index subscriptions_ended_early on subscriptions (ends_at) where state <> 'live';
