drop table leases;
drop table opt_outs;
drop table dial_decisions;
drop table scheduled_attempts;
drop table scheduled_leftovers;
drop table scheduled_calls;
