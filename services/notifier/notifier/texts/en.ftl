paid-issuing =
    ⏳ <b>Paid: { $paid }</b>

    Your access is being set up. This message will change when it is ready.

access-ready =
    ✅ <b>Paid. Your access is ready</b>

    { plan }, { devices }, until { $moment }.

access-extended =
    ✅ <b>Paid. Extended until { $moment }</b>

    { plan }, { devices }.

access-changed =
    ✅ <b>Paid. Your plan is now { plan }</b>

    { devices }, until { $moment }.

converted-time = The time you had left on { before } became { converted } of { plan }. The date includes it.

converted-nothing = There was too little time left on { before } to carry over.

same-key = Your key stays the same: there is nothing to set up.

new-link =
    Your access has moved to other servers. Tap the new key to copy it, and replace the old one in your app:
    <code>{ $key }</code>

key =
    1. Tap your key to copy it:
    <code>{ $key }</code>
    2. Install an app: Happ or Hiddify. Both run on phones and on computers.
    3. In the app, press “+” and add the key from the clipboard.
    4. Switch it on.

paid-from-balance =
    ⏳ <b>Paid from the balance: { $paid }</b>

    Your wallet now holds { $wallet }. Your access is being set up. This message will change when it is ready.

paid-restored =
    ⏳ <b>Purchase restored: { $paid } from the balance</b>

    Your debt is paid, so the cancelled purchase is valid again. Your wallet now holds { $wallet }. Your access is being set up. This message will change when it is ready.

restored = Your debt is paid, so the cancelled purchase is valid again. You paid { $paid } from your balance. Your wallet now holds { $wallet }.

from-balance = You paid { $paid } from your balance. Your wallet now holds { $wallet }.

left-over = You paid more than the price: { $over } is left over. It went to your wallet, which now holds { $wallet }.

button-my-access = 🔑 My access
button-qr = 🔳 QR code
button-pay-rest = 💳 Pay the rest
button-buy = 🛒 Buy
button-renew = 🛒 Extend
button-buy-again = 🛒 Buy again
button-balance = 💰 Balance
button-friends = 🤝 Invite friends
button-support = 💬 Support

topped-up =
    💰 <b>{ $paid } received</b>

    { $reason ->
        [order_closed] This order was already paid, or you paid a newer one instead.
        [order_too_old] This order is more than 30 days old and can no longer be paid.
        [not_yours] This order belongs to somebody else, so your payment does not count for it.
        [no_order] This payment does not belong to any order.
       *[unknown] No order was paid with it.
    } The money went to your wallet, which now holds { $wallet }. To buy access with it, press “Buy”. If you paid by mistake, press “Support”.

balance-topped-up =
    💰 <b>Balance topped up: { $value }</b>

    Wallet: { $wallet }

missing =
    💰 <b>{ $paid } received</b>, { $missing } still missing

    { $reason ->
        [part_spent] Part of what you paid for this order went to another order of yours or to a debt.
       *[unknown] This is not enough to pay for the order.
    } The order keeps its price for 30 days. Your wallet now holds { $wallet }.

pay-rest = To complete the order, press “Pay the rest”. Your balance can pay for it too, once it holds the whole price.

refunded =
    ↩️ <b>{ $paid } returned</b>

    The money goes back to where you paid from.

refund-ended = The purchase is cancelled: { plan } for { months }. “My access” shows until when you have access now.

refund-shortened = Your access is shorter now: a part of the purchase is cancelled ({ plan } for { months }).

refund-wallet = Your wallet now holds { $wallet }.

refund-owed = { $owed } of this money had already been spent: you owe it. Your next payments settle it first.

refund-restored = To get the access back, top up at least { $restored_for } in one payment within 30 days. We settle your debt with it and restore the cancelled purchases at their old price.

friend-registered =
    👋 <b>A friend has joined with your link</b>

    You get a share of every payment they make.

reward-earned =
    🎁 <b>{ $reward } earned</b>: { $percent }% of a friend’s payment

    { paying }. With { left } more you get { $next }%.

reward-earned-at-the-top =
    🎁 <b>{ $reward } earned</b>: { $percent }% of a friend’s payment

    { paying }. Your share is already the highest.

access-expiring =
    ⏰ <b>Your access ends</b> on { $moment }

    Less than { less } left. You can extend it now: the new period begins right after this one.

access-ended =
    ⌛ <b>Your access ended</b> on { $moment }

    You can buy again at any time.

plan = { $plan ->
    [basic] Basic
    [plus] Plus
   *[other] { $plan }
}

before = { $before ->
    [basic] Basic
    [plus] Plus
   *[other] { $before }
}

converted = { $days ->
    [0] { hours }
   *[other] { $hours ->
        [0] { days }
       *[other] { days } { hours }
    }
}

less = { $days ->
    [0] { $hours ->
        [one] { $hours } hour
       *[other] { $hours } hours
    }
   *[other] { $days ->
        [one] { $days } day
       *[other] { $days } days
    }
}

days = { $days ->
    [one] { $days } day
   *[other] { $days } days
}

hours = { $hours ->
    [one] { $hours } hour
   *[other] { $hours } hours
}

months = { $months ->
    [one] { $months } month
   *[other] { $months } months
}

devices = { $devices ->
    [one] { $devices } device
   *[other] { $devices } devices
}

paying = { $paying ->
    [one] You have { $paying } paying friend
   *[other] You have { $paying } paying friends
}

left = { $left ->
    [one] one
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
} { $year }, { $time } { zone }

# The time that readers of this language get, and its hours before UTC.
zone = UTC
zone-hours = 0
