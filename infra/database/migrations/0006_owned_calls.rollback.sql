drop table referrals;
drop table lines;
drop view call_attempts;
drop index calls_unarchived;
drop index calls_unsettled;
drop index calls_history_scheduled;
drop index calls_history_persona;
drop index calls_history;
drop index calls_one_live;
alter table calls
    drop constraint an_owned_call_has_its_terms,
    drop archived_at,
    drop settled_at,
    drop dialed_at,
    drop transcript_consent,
    drop max_minutes,
    drop hold_id,
    drop scheduled_id,
    drop number_id,
    drop persona_id,
    drop owner;
