-- The id of one command must not use up that of another kind: people can choose an id, in the data
-- of a forged button, and the ids of republish commands can be calculated.
create unique index commands_act_once_per_topic on commands (topic, id) where outcome = 'done';
drop index commands_act_once;
