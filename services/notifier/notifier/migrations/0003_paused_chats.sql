-- Pauses that are longer than any that is written, after the clock stepped back, are found here.
create index recipients_by_pause on recipients (paused_until) where paused_until is not null;
