# Screens

welcome =
    👋 <b>Welcome to Turnpike</b>

    Fast and private VPN access, right here in the chat: choose a plan, pay with Telegram Stars, get a key.

    Please read the terms first. Once you accept them, you can begin.

hello = Please press /start first.

menu =
    <b>Turnpike</b>

    What would you like to do?

language = <b>Language</b>

terms =
    <b>Terms</b>

    • You buy VPN access for the time and the number of devices shown in the order. It is for you alone.
    • Access starts once your payment is booked. Buying the same plan again makes it last longer.
    • Another plan starts at once and replaces the one you have. The paid time you have left becomes time of the new plan, by the one-month prices of both, rounded down to a full hour. You see the result before you pay.
    • You see the price before you pay. An order keeps its price for 30 days.
    • Money that arrives but buys nothing is kept on your balance here.
    • Access ends if you use the VPN to break the law or to harm others.

privacy =
    <b>Privacy</b>

    • We keep your Telegram id, name, username and language, so that we can write to you here.
    • We keep what you paid and bought, when, and who invited you.
    • What you type and tap here is deleted after 3 days. Only what the bot failed to process is kept longer, until somebody has looked into it.
    • The VPN servers know you by a random number, not by your name.

support-contact =
    💬 <b>Support</b>

    Write to { $contact }. If it is about a payment, please name its id.

support-nobody =
    💬 <b>Support</b>

    The owner of this shop has not named a contact yet. Please keep the ids of your payments: each of them can be found by its id.

support-payments = <b>Your last payments</b>

support-payment =
    { $day }, { $amount }
    <code>{ $charge }</code>

support-no-payments = You have not paid for anything here yet.

support-payments-unknown = Your payments cannot be shown right now. Telegram lists them too, with their ids: Settings, My Stars.

buy-plan =
    🛒 <b>Buy access</b>

    Choose a plan.

buy-period =
    🛒 <b>{ plan }</b>, { devices }

    For how long?

buy-order = 🛒 <b>{ plan }</b>, { period }: <b>{ $price }</b>

buy-way = How would you like to pay?

buy-invoice = Your order is ready. Pay it by { $until }.

buy-paid =
    ✅ <b>Payment received: { $asked }</b>

    What you bought comes in a message of its own.

outlook-begins = If you pay now, your access lasts until { moment }.

outlook-extends = This makes your access last longer. If you pay now, it lasts until { moment }.

outlook-converts =
    ⚠️ You have { $present } now. As soon as you pay, it changes to { plan }. The paid time you have left becomes { converted } of { plan }, on top of this order.
    If you pay now, your access lasts until { moment }.

outlook-rule = If you have access now: the same plan makes it last longer. Another plan replaces it as soon as you pay, and the paid time you have left becomes time of the new plan, by the one-month prices of both.

access-none =
    🔑 <b>My access</b>

    You have no access yet.

access-issuing =
    🔑 <b>My access</b>

    ⏳ Paid. Your key is being issued and will arrive here in a moment.

access-ended =
    🔑 <b>My access</b>

    ⌛ It ended on { moment }.

access-up =
    🔑 <b>My access</b>

    ✅ { plan }, { devices }
    Until { moment }: { $days ->
        [one] { $days } day left
       *[other] { $days } days left
    }

key =
    🔑 <b>Your key</b>, until { moment }

    Tap to copy it, then add it to your VPN app:
    <code>{ $link }</code>

key-qr =
    <b>Your key</b>, until { moment }

    Scan it with your VPN app. Anyone who sees it can use it.

balance =
    💰 <b>Balance: { $total }</b>

    Wallet: { $wallet }
    Earned: { $earned } ({ $withdrawable } can be withdrawn)

balance-owed = Owed: { $owed }

balance-lines = <b>Lately</b>

balance-line = { $day }  { $amount }  { $reason ->
    [receipt] payment received
    [purchase] access bought
    [reward] share of a friend’s payment
    [owed_settled] debt settled
   *[other] booking
}

friends =
    🤝 <b>Invite friends</b>

    You get { $percent }% of what they pay. Your link:
    <code>{ $link }</code>

friends-so-far =
    Invited: { $invited }
    Paying: { $paying }
    Earned: { $earned }

friends-next-level = { $missing ->
    [one] { $missing } more paying friend
   *[other] { $missing } more paying friends
} and you get { $percent }%.

friends-share-text = A VPN that works, right in Telegram. Here is my invitation:

trouble =
    😔 This does not work right now. The fault is ours.

    Nothing is lost. Please try again in a moment.

# Parts of them

plan = { $plan ->
    [basic] Basic
    [plus] Plus
   *[other] { $plan }
}

devices = { $devices ->
    [one] { $devices } device
   *[other] { $devices } devices
}

period = { $months ->
    [one] { $months } month
   *[other] { $months } months
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

converted = { $days ->
    [0] { hours }
   *[other] { days } { hours }
}

days = { $days ->
    [one] { $days } day
   *[other] { $days } days
}

hours = { $hours ->
    [one] { $hours } hour
   *[other] { $hours } hours
}

# Buttons

button-russian = 🇷🇺 Русский
button-english = 🇬🇧 English
button-accept = ✅ Accept and go on
button-terms = 📄 Terms
button-privacy = 🔒 Privacy
button-access = 🔑 My access
button-buy = 🛒 Buy
button-balance = 💰 Balance
button-friends = 🤝 Invite friends
button-support = 💬 Support
button-write = ✍️ Write to support
button-language = 🌐 Language · Язык
button-back = ← Back
button-menu = ☰ Menu
button-plan = { plan } · { devices } · from { $price }
button-period = { period } · { $price }
button-way-stars = Telegram Stars · { $stars }
button-pay = Pay { $asked }
button-look-again = 🔄 Look again
button-key = 📋 Key
button-qr = 🔳 QR code
button-hide = 🗑 Delete this picture
button-renew = 🛒 Extend
button-share = 📣 Share
button-again = 🔄 Try again

# The pay sheet

invoice-title = VPN { plan }, { period }
invoice-description = VPN access, plan { plan }, for { period }. For the person who pays.

# One sentence over the chat

toast-stale = This button is out of date. Here is the current screen.
toast-ran-out = That offer has expired. Here is a new one.
toast-not-sold = That is no longer sold. Here is what we sell now.
toast-offer-first = Please accept the terms first.
toast-slowly = Not so fast, please.
toast-no-key = There is no key to show now.

checkout-refused = { $reason ->
    [payload_unknown] We do not know this invoice. Please open “Buy” and start again.
    [not_yours] This invoice belongs to somebody else. Please open “Buy” to get your own.
    [order_closed] This order is already paid or closed. Nothing was charged.
    [invoice_superseded] There is a newer invoice for this order. Please pay that one.
    [invoice_expired] This invoice has expired. Please open “Buy” to get a new one.
    [being_paid] This order is being paid right now, so nothing was charged this time. If that payment fails, try again in a minute.
    [amount_differs] The amount does not match the order. Please open “Buy” to get a new invoice.
    [currency_differs] The currency does not match the order. Please open “Buy” to get a new invoice.
   *[away] We cannot take payments right now. Nothing was charged. Please try again in a minute.
}

# The menu of commands

command-start = Menu
command-support = Support
command-paysupport = Questions about a payment
command-terms = Terms
command-privacy = What we keep about you
