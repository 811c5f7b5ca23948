-- Operators by their name, or by their Telegram id. The owners of TURNPIKE_OWNERS have no row. What
-- was changed, by whom and why stands in `commands`.
create table operators (
  operator text primary key
    constraint operators_have_a_plain_name check (operator ~ '^[A-Za-z0-9._@+-]{1,64}$'),
  role text not null check (role in ('owner', 'admin', 'support')),
  since timestamptz not null default shop_now(),
  by text not null
);

do $$
begin
  execute format(
    'grant select, insert, update, delete on operators to %I', current_schema() || '_app'
  );
end $$;
