paid-issuing =
    ⏳ <b>Оплачено: { $price }</b>

    Доступ выдаётся. Ключ появится здесь, в этом сообщении.

access-ready =
    ✅ <b>Оплачено. Доступ готов</b>

    { plan }, { devices }, до { moment }.

    Ваш ключ, нажмите, чтобы скопировать:
    <code>{ $key }</code>

button-my-access = 🔑 Мой доступ

topped-up =
    💰 <b>Получено { $value }</b>

    Теперь в кошельке { $wallet }.

missing =
    💰 <b>Получено { $value }</b>, не хватает { $missing }

    В кошельке { $wallet }. Ваш заказ остаётся открытым по своей цене.

friend-registered =
    👋 <b>По вашему приглашению пришёл друг</b>

    Вы получите долю от его платежей.

reward-earned =
    🎁 <b>Вам начислено { $reward }</b>: { $percent } % от платежа друга

    { paying }. Ещё { left }, и будет { $next } %.

reward-earned-at-the-top =
    🎁 <b>Вам начислено { $reward }</b>: { $percent } % от платежа друга

    { paying }. Это высший уровень.

access-ended =
    ⌛ <b>Доступ закончился</b> { moment }

    Купить снова можно в любой момент: /start

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

paying = { $paying ->
    [one] Платит { $paying } приглашённый друг
    [few] Платят { $paying } приглашённых друга
   *[many] Платят { $paying } приглашённых друзей
}

left = { $left ->
    [one] { $left } друг
    [few] { $left } друга
   *[many] { $left } друзей
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
