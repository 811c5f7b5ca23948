paid-issuing =
    ⏳ <b>Paid: { $price }</b>

    Your access is being issued. The key will appear here, in this message.

access-ready =
    ✅ <b>Paid. Your access is ready</b>

    { plan }, { devices }, until { moment }.

    Your key, tap to copy:
    <code>{ $key }</code>

button-my-access = 🔑 My access

topped-up =
    💰 <b>{ $value } received</b>

    { $reason ->
        [order_closed] This order is paid or closed already, so the money bought nothing.
        [order_too_old] This order is older than 30 days and can no longer be paid.
        [not_yours] This order belongs to somebody else, so the money bought nothing.
        [no_order] The payment names no order of ours, so the money bought nothing.
       *[unknown] The money bought nothing.
    } It is in your wallet, which now holds { $wallet }.

missing =
    💰 <b>{ $value } received</b>, { $missing } is still missing

    { $reason ->
        [part_spent] Part of what you paid before has been spent since.
       *[unknown] It is less than the price of the order.
    } Your order stays open at its price. Your wallet holds { $wallet }.

left-over =
    💰 <b>{ $over } more than the price</b>

    You paid more for this order than it costs. The rest is in your wallet, which now holds { $wallet }.

friend-registered =
    👋 <b>A friend has joined by your invitation</b>

    You will get a share of what they pay.

reward-earned =
    🎁 <b>{ $reward } earned</b>: { $percent }% of a friend’s payment

    { paying }. { left } more, and you will get { $next }%.

reward-earned-at-the-top =
    🎁 <b>{ $reward } earned</b>: { $percent }% of a friend’s payment

    { paying }. You have reached the highest level.

access-ended =
    ⌛ <b>Your access ended</b> on { moment }

    You can buy again at any time: /start

plan = { $plan ->
    [basic] Basic
    [plus] Plus
   *[other] { $plan }
}

devices = { $devices ->
    [one] { $devices } device
   *[other] { $devices } devices
}

paying = { $paying ->
    [one] { $paying } invited friend pays
   *[other] { $paying } invited friends pay
}

left = { $left ->
    [one] One
   *[other] { $left }
}

moment = { $day } { $month ->
    [1] January
    [2] February
    [3] March
    [4] April
    [5] May
    [6] June
    [7] July
    [8] August
    [9] September
    [10] October
    [11] November
   *[12] December
} { $year }, { $time } UTC
