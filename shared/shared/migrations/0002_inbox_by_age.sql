-- Rows of the inbox are dropped by age, and inserted in its order.
create index inbox_by_age on inbox using brin (heard_at);
