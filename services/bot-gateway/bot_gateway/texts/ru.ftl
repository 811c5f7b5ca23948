# Экраны

welcome =
    👋 <b>Добро пожаловать в Turnpike</b>

    Быстрый и приватный VPN прямо в чате: выберите тариф, оплатите звёздами Telegram, получите ключ.

    Прежде чем начать, прочитайте условия: /terms. Примите их, и пойдём дальше.

hello = Нажмите /start, чтобы мы познакомились.

menu =
    <b>Turnpike</b>

    Что будем делать?

language = <b>Язык</b>

terms =
    <b>Условия</b>

    • Вы покупаете доступ к VPN на срок и число устройств, указанные в заказе. Он для вас лично.
    • Доступ начинается, как только платёж учтён. Новая покупка продлевает его от текущего окончания.
    • Цена показана до оплаты, и заказ сохраняет свою цену.
    • Деньги, которые пришли и ничего не купили, остаются здесь на вашем балансе.
    • Нарушение закона или вред другим через VPN прекращает доступ.

    Что мы о вас храним: /privacy

privacy =
    <b>Приватность</b>

    • Мы храним ваш Telegram id, имя, имя пользователя и язык, чтобы говорить с вами здесь.
    • Мы храним, что и когда вы купили и по чьему приглашению пришли.
    • На серверах VPN вы — случайный номер без имени.

buy-plan =
    🛒 <b>Купить доступ</b>

    Выберите тариф.

buy-period =
    🛒 <b>{ plan }</b>, { devices }

    На какой срок?

buy-way =
    🛒 <b>{ plan }</b>, { period }: <b>{ $price }</b>

    Как вам удобно заплатить?

buy-invoice =
    🛒 <b>{ plan }</b>, { period }: <b>{ $price }</b>

    Заказ готов. Оплатить его можно до { $until }.

access-none =
    🔑 <b>Мой доступ</b>

    Доступа пока нет.

access-issuing =
    🔑 <b>Мой доступ</b>

    ⏳ Оплачен и выдаётся. Ключ через мгновение придёт сам.

access-ended =
    🔑 <b>Мой доступ</b>

    ⌛ Закончился { moment }.

access-up =
    🔑 <b>Мой доступ</b>

    ✅ { plan }, { devices }
    До { moment }: { $days ->
        [one] остался { $days } день
        [few] осталось { $days } дня
       *[many] осталось { $days } дней
    }

key =
    🔑 <b>Ваш ключ</b>, до { moment }

    Нажмите, чтобы скопировать, и добавьте в приложение VPN:
    <code>{ $link }</code>

key-qr =
    <b>Ваш ключ</b>, до { moment }

    Отсканируйте его приложением VPN. Кто его видит, может им пользоваться.

balance =
    💰 <b>Баланс: { $total }</b>

    Кошелёк: { $wallet }
    Заработано: { $earned }, из них можно вывести { $withdrawable }

balance-owed = Долг: { $owed }

balance-lines = <b>Последнее</b>

balance-line = { $day }  { $amount }  { $reason ->
    [receipt] поступила оплата
    [purchase] покупка доступа
    [reward] доля от платежа друга
    [owed_settled] погашение долга
   *[other] операция
}

friends =
    🤝 <b>Пригласить друзей</b>

    Вы получаете { $percent } % от их платежей. Ваша ссылка:
    <code>{ $link }</code>

friends-so-far =
    Приглашено: { $invited }
    Платят: { $paying }
    Заработано: { $earned }

friends-next-level = { $missing ->
    [one] Ещё { $missing } платящий друг
    [few] Ещё { $missing } платящих друга
   *[many] Ещё { $missing } платящих друзей
}, и вы получаете { $percent } %.

friends-share-text = VPN, который работает, прямо в Telegram. Моё приглашение:

trouble =
    😔 Сейчас это не получается, и виноваты мы.

    Ничего не пропало. Попробуйте ещё раз через минуту.

# Их части

plan = { $plan ->
    [basic] Базовый
    [plus] Плюс
   *[other] { $plan }
}

devices = { $devices ->
    [one] { $devices } устройство
    [few] { $devices } устройства
   *[many] { $devices } устройств
}

period = { $months ->
    [one] { $months } месяц
    [few] { $months } месяца
   *[many] { $months } месяцев
}

moment = { $day } { $month ->
    [1] января
    [2] февраля
    [3] марта
    [4] апреля
    [5] мая
    [6] июня
    [7] июля
    [8] августа
    [9] сентября
    [10] октября
    [11] ноября
   *[12] декабря
} { $year }, { $time } UTC

# Кнопки

button-russian = 🇷🇺 Русский
button-english = 🇬🇧 English
button-accept = ✅ Принять и продолжить
button-access = 🔑 Мой доступ
button-buy = 🛒 Купить
button-balance = 💰 Баланс
button-friends = 🤝 Пригласить друзей
button-language = 🌐 Язык · Language
button-back = ← Назад
button-menu = ☰ Меню
button-plan = { plan } · { devices } · от { $price }
button-period = { period } · { $price }
button-way-stars = Звёзды Telegram · { $stars }
button-pay = Оплатить { $asked }
button-look-again = 🔄 Проверить ещё раз
button-key = 📋 Ключ
button-qr = 🔳 QR-код
button-hide = 🗑 Удалить картинку
button-renew = 🛒 Продлить
button-share = 📣 Поделиться
button-again = 🔄 Попробовать ещё раз

# Окно оплаты

invoice-title = VPN { plan }, { period }
invoice-description = Доступ к VPN по тарифу { plan } на { period }, для того, кто платит.

# Одно предложение поверх чата

toast-stale = Эта кнопка устарела. Вот что есть сейчас.
toast-ran-out = То предложение истекло. Вот новое.
toast-not-sold = Это больше не продаётся. Вот что есть сейчас.
toast-offer-first = Сначала примите, пожалуйста, условия.
toast-slowly = Не так быстро, пожалуйста.
toast-no-key = Сейчас нет ключа, который можно показать.

checkout-refused = { $reason ->
    [payload_unknown] Этот счёт здесь неизвестен. Откройте «Купить» и начните заново.
    [not_yours] Этот счёт принадлежит другому человеку. Откройте «Купить» для своего.
    [order_closed] Этот заказ уже оплачен или закрыт. Ничего не списано.
    [invoice_superseded] Для этого заказа есть более новый счёт. Оплатите, пожалуйста, его.
    [invoice_expired] Срок этого счёта истёк. Откройте «Купить» для нового.
    [amount_differs] Сумма не совпадает с заказом. Откройте «Купить» для нового счёта.
    [currency_differs] Валюта не совпадает с заказом. Откройте «Купить» для нового счёта.
   *[away] Сейчас мы не можем принять оплату. Ничего не списано. Попробуйте через минуту.
}

# Меню команд

command-start = Меню
command-terms = Условия
command-privacy = Что мы о вас храним
