
revoke all on database turnpike from public;
revoke all on schema public from public;

do $$
begin
  if not exists (select from pg_roles where rolname = 'bot_owner') then
    create role bot_owner login;
  end if;
  if not exists (select from pg_roles where rolname = 'bot_app') then
    create role bot_app login;
  end if;
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute 'grant bot_owner to current_user with inherit true, set true';
  end if;
end
$$;
alter role bot_owner set search_path = bot;
alter role bot_app set search_path = bot;
alter role bot_app set statement_timeout = '10s';
alter role bot_app set lock_timeout = '5s';
alter role bot_app set idle_in_transaction_session_timeout = '10s';
alter role bot_app set plan_cache_mode = force_generic_plan;
alter role bot_app set enable_seqscan = off;
alter role bot_app set jit = off;
grant connect on database turnpike to bot_owner, bot_app;
create schema if not exists bot authorization bot_owner;
grant usage on schema bot to bot_app;

do $$
begin
  if not exists (select from pg_roles where rolname = 'payments_owner') then
    create role payments_owner login;
  end if;
  if not exists (select from pg_roles where rolname = 'payments_app') then
    create role payments_app login;
  end if;
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute 'grant payments_owner to current_user with inherit true, set true';
  end if;
end
$$;
alter role payments_owner set search_path = payments;
alter role payments_app set search_path = payments;
alter role payments_app set statement_timeout = '10s';
alter role payments_app set lock_timeout = '5s';
alter role payments_app set idle_in_transaction_session_timeout = '10s';
alter role payments_app set plan_cache_mode = force_generic_plan;
alter role payments_app set enable_seqscan = off;
alter role payments_app set jit = off;
grant connect on database turnpike to payments_owner, payments_app;
create schema if not exists payments authorization payments_owner;
grant usage on schema payments to payments_app;

do $$
begin
  if not exists (select from pg_roles where rolname = 'referrals_owner') then
    create role referrals_owner login;
  end if;
  if not exists (select from pg_roles where rolname = 'referrals_app') then
    create role referrals_app login;
  end if;
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute 'grant referrals_owner to current_user with inherit true, set true';
  end if;
end
$$;
alter role referrals_owner set search_path = referrals;
alter role referrals_app set search_path = referrals;
alter role referrals_app set statement_timeout = '10s';
alter role referrals_app set lock_timeout = '5s';
alter role referrals_app set idle_in_transaction_session_timeout = '10s';
alter role referrals_app set plan_cache_mode = force_generic_plan;
alter role referrals_app set enable_seqscan = off;
alter role referrals_app set jit = off;
grant connect on database turnpike to referrals_owner, referrals_app;
create schema if not exists referrals authorization referrals_owner;
grant usage on schema referrals to referrals_app;

do $$
begin
  if not exists (select from pg_roles where rolname = 'vpn_owner') then
    create role vpn_owner login;
  end if;
  if not exists (select from pg_roles where rolname = 'vpn_app') then
    create role vpn_app login;
  end if;
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute 'grant vpn_owner to current_user with inherit true, set true';
  end if;
end
$$;
alter role vpn_owner set search_path = vpn;
alter role vpn_app set search_path = vpn;
alter role vpn_app set statement_timeout = '10s';
alter role vpn_app set lock_timeout = '5s';
alter role vpn_app set idle_in_transaction_session_timeout = '10s';
alter role vpn_app set plan_cache_mode = force_generic_plan;
alter role vpn_app set enable_seqscan = off;
alter role vpn_app set jit = off;
grant connect on database turnpike to vpn_owner, vpn_app;
create schema if not exists vpn authorization vpn_owner;
grant usage on schema vpn to vpn_app;

do $$
begin
  if not exists (select from pg_roles where rolname = 'notifier_owner') then
    create role notifier_owner login;
  end if;
  if not exists (select from pg_roles where rolname = 'notifier_app') then
    create role notifier_app login;
  end if;
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute 'grant notifier_owner to current_user with inherit true, set true';
  end if;
end
$$;
alter role notifier_owner set search_path = notifier;
alter role notifier_app set search_path = notifier;
alter role notifier_app set statement_timeout = '10s';
alter role notifier_app set lock_timeout = '5s';
alter role notifier_app set idle_in_transaction_session_timeout = '10s';
alter role notifier_app set plan_cache_mode = force_generic_plan;
alter role notifier_app set enable_seqscan = off;
alter role notifier_app set jit = off;
grant connect on database turnpike to notifier_owner, notifier_app;
create schema if not exists notifier authorization notifier_owner;
grant usage on schema notifier to notifier_app;
