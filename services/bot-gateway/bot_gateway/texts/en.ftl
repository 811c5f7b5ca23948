# Screens

welcome =
    👋 <b>Welcome to Turnpike</b>

    Fast and private VPN access, right here in the chat: choose a plan, pay, and get a key.

    Please read the terms first. Once you accept them, you can begin.

hello = Please press /start first.

menu =
    <b>Turnpike</b>

    What would you like to do?

not-understood =
    🤔 I only understand buttons.

    Choose what you need below. For anything else there is “Support”.

slowly =
    ✋ <b>Not so fast, please</b>

    I skipped some of your messages. Wait a few seconds, then go on.

language = <b>Language</b>

terms =
    <b>Terms</b>

    • You buy VPN access for the time and the number of devices shown in the order. It is for you alone.
    • Access starts as soon as we receive your payment. Buying the same plan again makes it last longer.
    • Another plan starts at once and replaces the one you have. The paid time you have left is converted by the one-month prices of both plans and rounded down to a full hour. You see the result before you pay.
    • You see the price before you pay. An order keeps its price for 30 days.
    • Money that belongs to no order goes to your wallet (see “Balance”). You can buy access with it.
    • Access ends if you use the VPN to break the law or to harm others.

privacy =
    <b>Privacy</b>

    • We keep your Telegram id, name, username and language, so that we can write to you here.
    • We keep what you paid and bought, when, and who invited you.
    • An e-mail that you give for receipts is kept until you remove it on the balance screen.
    • What you type and tap here is deleted after 3 days. Only what the bot failed to process is kept longer, until somebody has looked into it.
    • The VPN servers know you by a random number, not by your name.

support-contact =
    💬 <b>Support</b>

    Write to { $contact }. If it is about a payment, please include its ID.

support-nobody =
    💬 <b>Support</b>

    The owner of this shop has not given a contact yet. Please keep the IDs of your payments: we can find each of them by its ID.

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

way-least = { $way ->
    [sbp] By SBP you pay at least { $least }.
    [card] By card you pay at least { $least }.
    [telegram] By card in Telegram you pay at least { $least }.
   *[other] In crypto you pay at least { $least }.
} Anything above the price stays in your wallet.

way-failed = 😔 That way to pay does not work right now. Nothing was charged. Please choose another, or try again.

way-canceled = 😔 The payment did not go through. Nothing was charged. Please try again, or choose another way to pay.

charge-refused = 😔 { $reason ->
    [method_gone] This card or account can no longer be charged, so we have forgotten it. Nothing was charged. Please choose another way to pay.
    [no_funds] There is not enough money on your card or account. Nothing was charged. Top it up and try again, or choose another way to pay.
    [declined] The bank has refused the payment. Nothing was charged. Please try again later, or choose another way to pay.
   *[other] That way to pay does not work right now. Nothing was charged. Please choose another, or try again.
}

charging = ⏳ { $way ->
    [sbp] We are charging your saved SBP account: { $asked }.
   *[other] We are charging your saved card: { $asked }.
} A message will tell you when it is paid.

remember-consent = { $way ->
    [sbp] ☑ When you pay, we will remember your account. Next time one tap is enough, and without your tap nothing is charged. You can make us forget it on the Balance screen.
   *[other] ☑ When you pay, we will remember your card. Next time one tap is enough, and without your tap nothing is charged. You can make us forget it on the Balance screen.
}

saved-card = Card *{ $digits }

saved-method = { $way ->
    [sbp] SBP account
   *[other] Saved card
}

forget = 🗑 Forget <b>{ $method }</b>? It will never be charged here again. To save it anew, you will have to pay by it once more.

ways-none = We cannot take payments right now. Please try again later.

buy-asking = ⏳ Your invoice is being prepared. This takes a few seconds.

buy-invoice = Your invoice is ready. Please pay it within { $minutes ->
    [one] { $minutes } minute
   *[other] { $minutes } minutes
}.

buy-rest =
    🛒 <b>{ plan }</b>, { period }

    Still missing: <b>{ $price }</b>. As soon as it arrives, your order is complete.

rest-is-nothing = Your balance covers this order.

rest-from-balance = The rest comes from your balance.

order-over = { $reason ->
    [order_paid] This order is already paid.
    [invoice_paid] Your payment for this order has arrived. We will tell you the result in a message here.
    [order_too_old] You placed this order more than 30 days ago, so it can no longer be paid. What you paid is in your wallet.
   *[order_closed] You paid a newer order, so this one is closed.
}

outlook-begins = If you pay now, your access lasts until { $moment }.

outlook-extends = This makes your access last longer. If you pay now, it lasts until { $moment }.

outlook-converts =
    ⚠️ You have { $present } now. As soon as you pay, it changes to { plan }. The paid time you have left becomes { converted } of { plan }, on top of this order.
    If you pay now, your access lasts until { $moment }.

outlook-rule = If you have access now, the same plan makes it last longer. Another plan replaces it as soon as you pay, and the paid time you have left is converted by the one-month prices of both.

access-none =
    🔑 <b>My access</b>

    You have no access yet.

access-issuing =
    🔑 <b>My access</b>

    ⏳ Paid. Your access is being set up. We will write here when it is ready.

access-ended =
    🔑 <b>My access</b>

    ⌛ It ended on { $moment }.

access-up =
    🔑 <b>My access</b>

    ✅ { plan }, { devices }
    Until { $moment }: { $days ->
        [one] { $days } day left
       *[other] { $days } days left
    }

key =
    🔑 <b>Your key</b>, until { $moment }

    Tap it to copy it. In your VPN app press “+” and choose “From clipboard”:
    <code>{ $link }</code>

key-qr =
    <b>Your key</b>, until { $moment }

    Scan it with your VPN app. Anyone who sees it can use it.

connect =
    📖 <b>How to connect</b>

    1. Install an app: Happ or Hiddify. Both run on phones and on computers.
    2. Open your key here and tap it: that copies it.
    3. In the app press “+” and choose “From clipboard”. On another device, scan the QR code.
    4. Switch the VPN on in the app.

url-app-happ = https://www.happ.su/main

url-app-hiddify = https://hiddify.com

balance =
    💰 <b>Balance: { $total }</b>

    You can buy access with it. It cannot be withdrawn yet.

    Wallet: { $wallet }
    Earned: { $earned }

balance-owed = You owe: { $owed }

balance-lines = <b>Recent activity</b>

balance-history = 💰 <b>Earlier activity</b>

balance-line = { $day }  { $amount }  { $reason ->
    [topup] balance topped up
    [receipt] payment received
    [purchase] access bought
    [reward] share of a friend’s payment
    [owed_settled] debt settled
    [adjustment] correction by the shop
    [resolution] payment found and credited
    [purchase_undone] purchase cancelled
    [refund] payment returned
    [reward_reversed] share of a returned payment
    [hold] held for a refund
    [hold_returned] hold released
   *[other] other
}

topup =
    💰 <b>Top up the balance</b>

    How much would you like to add?

email-for-receipt =
    🧾 <b>Where should we send the receipt?</b>

    Type your e-mail address. We ask only once and use it for receipts alone. You can also pay without giving one.

email-not-read = This is not an e-mail address. Example: anna@example.com

email-known =
    🧾 <b>Receipts go to { $email }</b>

    Type another address to change it.

email-none =
    🧾 <b>No e-mail for receipts</b>

    Type your e-mail address to get receipts for your next payments.

topup-amount =
    ✍️ <b>Type the amount</b>

    A whole number of rubles, from { $least } to { $most }. For example: 700

topup-not-an-amount =
    🤔 <b>I cannot add that amount</b>

    Please type a whole number of rubles, from { $least } to { $most }. For example: 700

topup-order = 💰 Top up the balance: <b>{ $amount }</b>

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

friends-share-text = A VPN that works, sold right in Telegram. Here is my invitation:

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
} { $year }, { $time } { zone }

# The time that readers of this language get, and its hours before UTC.
zone = UTC
zone-hours = 0

converted = { $days ->
    [0] { hours }
   *[other] { $hours ->
        [0] { days }
       *[other] { days } { hours }
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
button-way = { $way ->
    [stars] Telegram Stars
    [sbp] SBP
    [card] Card
    [telegram] Card in Telegram
   *[other] Crypto
} · { $asked }
button-saved = ⚡ { $method } · { $asked }
button-remember = { $way ->
    [sbp] ☐ Remember this account
   *[other] ☐ Remember this card
}
button-remembers = { $way ->
    [sbp] ☑ Remember this account
   *[other] ☑ Remember this card
}
button-forget = 🗑 Forget { $method }
button-forget-it = 🗑 Yes, forget it
button-from-balance = Pay { $price } from the balance
button-missing = Pay { $missing } more, the rest from the balance
button-topup = ➕ Top up
button-amount = { $amount }
button-skip-email = Pay without an e-mail
button-receipts = 🧾 Receipts
button-remove-email = 🗑 Remove the address
button-other-amount = ✍️ Another amount
button-earlier = Earlier →
button-later = ← Later
button-pay = Pay { $asked }
button-connect = 📖 How to connect
button-app-happ = Happ ↗
button-app-hiddify = Hiddify ↗
button-look-again = 🔄 Check again
button-key = 📋 Key
button-qr = 🔳 QR code
button-hide = 🗑 Delete this picture
button-renew = 🛒 Extend
button-share = 📣 Share
button-again = 🔄 Try again

# The pay sheet

invoice-title = VPN { plan }, { period }
invoice-description = VPN access, plan { plan }, for { period }. It goes to the person who pays.

topup-title = Top-up: { $amount }
topup-description = The money goes to your wallet here. You can buy VPN access with it.

# One sentence over the chat

toast-stale = This button is out of date. Here is the current screen.
toast-ran-out = That offer has expired. Here is a new one.
toast-way-closed = You cannot pay that way right now. Please choose another.
toast-too-much = That amount is too large for this way to pay. Please choose another.
toast-balance-enough = Your balance covers this order now.
toast-balance-short = Your balance no longer covers this. Here is what is missing.
toast-paid-from-balance = Paid from the balance.
toast-method-unknown = We no longer remember that card or account.
toast-being-charged = An earlier charge has not ended yet. We will tell you the result in a message here.
toast-dearer = This costs more now than the button said. Nothing was charged. Here is the price of today.
toast-method-forgotten = Forgotten. It will not be charged again.
toast-not-sold = That is no longer sold. Here is what we sell now.
toast-offer-first = Please accept the terms first.
toast-slowly = Not so fast, please.
toast-no-key = There is no key to show now.

checkout-refused = { $reason ->
    [payload_unknown] We do not know this invoice. Nothing was charged. Please press “Buy” and start again.
    [not_yours] This invoice belongs to somebody else. Nothing was charged. Please press “Buy” to get your own.
    [order_paid] This order is already paid. Nothing was charged.
    [invoice_paid] You have already paid this invoice. Nothing was charged this time.
    [order_closed] You paid a newer order, so this one is closed. Nothing was charged.
    [order_superseded] You placed a newer order. Nothing was charged. Please pay the newer one.
    [invoice_superseded] There is a newer invoice for this order. Nothing was charged. Please pay that one.
    [invoice_expired] This invoice has expired. Nothing was charged. Please press “Buy” to get a new one.
    [being_paid] This order is being paid right now, so nothing was charged this time. If that payment fails, try again in a minute.
    [amount_differs] The amount does not match the order. Nothing was charged. Please press “Buy” to get a new invoice.
    [currency_differs] The currency does not match the order. Nothing was charged. Please press “Buy” to get a new invoice.
   *[away] We cannot take payments right now. Nothing was charged. Please try again in a minute.
}

# The menu of commands

command-start = Menu
command-support = Support
command-paysupport = Question about a payment
command-terms = Terms
command-privacy = What we keep about you
