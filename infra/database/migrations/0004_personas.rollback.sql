-- The extension stays: it may have been there before us, and nothing hangs on it.
drop table passages;
drop table contacts;
drop table persona_snapshots;
drop table personas;
