-- What became of a payment is asked by its charge or by its order; `facts` keep both for 30 days.
create index facts_by_charge on facts ((body ->> 'charge')) where topic = 'bot.payment.reported';
create index facts_by_order on facts (left(body ->> 'payload', 32)) where topic = 'bot.payment.reported';
create index updates_by_fact on updates (fact) where fact is not null;
