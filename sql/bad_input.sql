-- Input that a fuzzer has found (test/t/350_fuzz.pl, test/fuzz): each of these
-- once was an internal error, or worse.
\set VERBOSITY terse
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS flowpg;

-- more tasks than memory can be asked for
SELECT flow.graph_order(2147483647, '{0}', '{1}');
SELECT flow.graph_cycle(10000001, '{}', '{}');
SELECT flow.graph_upstream(2147483647, '{0,1}', '[5:6]={0,1}', '{1,2,0}');

-- POSIX zones whose clocks move by days
SELECT flow.cron_next('@daily', '4>-25', '2000-06-01');
SELECT flow.cron_next('@daily', 'UTP1MC77', '2000-06-01');

-- where the years end in UTC, and in the zone
SELECT flow.cron_next('59 59 23 31 12 ?', 'America/New_York', '9999-12-31 12:00Z') AS next,
    flow.cron_previous('59 59 23 31 12 ?', 'America/New_York', 'infinity') AS last,
    flow.cron_next('0 0 1 1 *', 'UTC', '-infinity') AS first,
    flow.cron_previous('0 0 1 1 *', 'UTC', '0001-01-01 00:00Z') AS first_again,
    flow.cron_previous('0 0 1 1 *', 'Asia/Tokyo', '0001-01-01 12:00Z') AS none;

-- a word for a date on which no interval can end
SELECT flow_create_dag('word_waits', '@daily', '2024-05-01', is_paused => true);
SELECT flow_add_dependency('outside', 'word_waits');
INSERT INTO flow.dag_log (dag_id, completion_date) VALUES ('outside', '4713-11-24 BC');
INSERT INTO flow.dag_log (dag_id, completion_date) VALUES ('outside', '5874897-12-31');
INSERT INTO flow.dag_log (dag_id, completion_date) VALUES ('outside', 'infinity');
SELECT flow_drop_dag('word_waits');

-- durations beyond what is counted in microseconds
SELECT flow_create_dag('too_long', retry_delay => '178000000 years');
SELECT flow_create_dag('too_long', retry_delay => '10001 years');
SELECT flow_create_dag('too_long', dagrun_timeout => '10000 years');
SELECT flow_add_sql('too_long', 'a', 'SELECT 1', execution_timeout => '2147483647 days');
SELECT flow_drop_dag('too_long');

-- intervals of which nobody can say how long they are: months of 30 days made
-- more than zero of these
\set VERBOSITY default
SELECT flow_create_dag('mixed', retry_delay => make_interval(months => -71582788, days => 2147483641));
\set VERBOSITY terse
SELECT flow_create_dag('mixed', retry_delay => '-1 year 361 days');
SELECT flow_create_dag('mixed', dagrun_timeout => '1 mon -30 days 00:00:01');
SELECT flow_apply('{"dag_id": "mixed", "retry_delay": "-1 day +24:00:01"}');
SELECT flow_create_dag('mixed', retry_delay => '1 mon 1 day 00:00:01');
SELECT flow_add_sql('mixed', 'a', 'SELECT 1', execution_timeout => '1 day -1 hour');
SELECT flow_add_sensor('mixed', 'a', 'SELECT true', poke_interval => '-1 mon 31 days');
SELECT flow_add_sql('mixed', 'a', 'SELECT 1');
SELECT flow_preview_backfill('mixed', span => '[2024-01-01,2024-02-01)', chunk => '-1 mon 31 days');

-- months counted from before the year 1
SELECT data_interval_start, data_interval_end FROM flow_preview_backfill('mixed', span => '["0002-11-15 00:00Z BC","0001-06-01 00:00Z")', chunk => '1 year');
SELECT flow_drop_dag('mixed');
