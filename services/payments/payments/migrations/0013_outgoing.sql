-- Money that an operator returns: held, asked for at its acquirer, then settled or released. The id
-- is that of the act, and the key under which the acquirer is asked. Kopecks of the wallet are held
-- in the account `outgoing` meanwhile. `asked_at` is the first call: from then on the money may
-- have left. `lost`: the answer to the last call may be lost. `due_at` is when it is asked about
-- next, and the end of the lease of `claim`.
create table outgoing_refunds (
  id uuid primary key,
  receipt uuid not null references receipts,
  acquirer text not null,
  charge text not null,
  person uuid,
  actor text not null,
  currency text not null,
  amount_minor bigint not null check (amount_minor > 0),
  held_minor bigint not null check (held_minor >= 0),
  state text not null default 'held' check (
    state in ('held', 'calling', 'pending', 'pending_review', 'settled', 'released')
  ),
  reference text,
  refund uuid references refunds,
  reason text,
  trace text,
  tries int not null default 0,
  lost boolean not null default false,
  claim uuid,
  requested_at timestamptz not null default shop_now(),
  asked_at timestamptz,
  due_at timestamptz not null default shop_now(),
  ended_at timestamptz,
  constraint only_money_of_people_is_held check (person is not null or held_minor = 0),
  constraint settled_refunds_are_booked check ((state = 'settled') = (refund is not null)),
  constraint pending_refunds_have_a_reference check (state <> 'pending' or reference is not null),
  constraint ended_refunds_have_a_time
    check ((state in ('settled', 'released')) = (ended_at is not null))
);
-- Another refund of a receipt is refused until this one has ended.
create unique index one_refund_of_a_receipt_is_under_way on outgoing_refunds (receipt)
  where state in ('held', 'calling', 'pending', 'pending_review');
create index outgoing_refunds_due on outgoing_refunds (acquirer, due_at)
  where state in ('held', 'calling', 'pending');
create index outgoing_refunds_in_review on outgoing_refunds (requested_at)
  where state = 'pending_review';
create index outgoing_refunds_by_time on outgoing_refunds (requested_at, id);
create index outgoing_refunds_ended on outgoing_refunds (ended_at) where ended_at is not null;

-- A lane of its own: refunds wait for no invoice, and no invoice waits for them.
alter table provider_pace
  drop constraint provider_pace_lane_check,
  add constraint provider_pace_lane_check check (lane in ('open', 'notice', 'watch', 'refund'));
insert into provider_pace (acquirer, lane, every)
select acquirer, 'refund', interval '0.2 seconds'
from (values ('yookassa'), ('cryptobot'), ('telegram_stars')) as a (acquirer);

-- The reasons are those of all versions: a later list must not forget an earlier one.
alter table transfers
  drop constraint transfers_reason_check,
  add constraint transfers_reason_check check (
    reason in (
      'receipt', 'fee', 'purchase', 'reward', 'owed_settled', 'purchase_undone', 'refund',
      'reward_reversed', 'adjustment', 'resolution', 'hold', 'hold_returned'
    )
  );

do $$
declare app text := current_schema() || '_app';
begin
  execute format('grant select, insert, update, delete on outgoing_refunds to %I', app);
end $$;
