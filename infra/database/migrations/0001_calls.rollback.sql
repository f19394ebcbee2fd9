drop table nodes;
drop table call_turns;
drop table call_events;
drop table calls;
drop function call_events_stand();
drop function call_turn_told();
drop function call_event_told();
