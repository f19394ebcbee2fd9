drop table incidents;
drop table uptime;
