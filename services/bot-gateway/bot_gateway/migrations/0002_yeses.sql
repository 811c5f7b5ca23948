-- Which invoices may be charged at this moment: the answer to a pre-checkout was yes, and of one invoice there is one
-- charge. `query` is the pre-checkout that was answered, so that its own repeat gets the same yes.
create table yeses (
  payload text primary key,
  query text not null,
  said_at timestamptz not null,
  charged_at timestamptz
);
create index yeses_by_time on yeses (said_at);

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert, update, delete on yeses to %I', app);
end $$;
