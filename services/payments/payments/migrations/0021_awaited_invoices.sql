-- Whether the invoice could be paid when its job was put off: its payer may wait for the answer.
-- Old jobs learn it with their next answer.
alter table invoice_jobs add column awaited boolean not null default false;
create index awaited_invoice_jobs_due on invoice_jobs (acquirer, due_at)
  where step = 'watch' and awaited and tries = 0;
