
# Which intervals run when: catchup, pause, bounds, backfills, under a time
# that the test moves.  Each DAG is dropped when its case is told, so that the
# next years do not make runs of it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $node = new_node(
	'intervals', conf => q{
flowpg.simulated_now = '2020-01-01 09:00:00+00'
});

$node->safe_psql('postgres', q{
CREATE TABLE seen (n serial, dag_id text, run_id bigint, ds date, from_ts timestamptz, until_ts timestamptz);
});

# A DAG whose one task notes the interval that it is given.
sub dag
{
	my ($dag_id, $arguments) = @_;

	return define($node, qq{
SELECT flow_create_dag('$dag_id', $arguments);
SELECT flow_add_sql('$dag_id', 'note', 'INSERT INTO seen (dag_id, run_id, ds, from_ts, until_ts)
	VALUES (run.dag_id, run.run_id, run.ds, run.data_interval_start, run.data_interval_end)')});
}

# The starts of the intervals that have run, one for each time.
sub seen
{
	my ($dag_id, $format) = @_;

	return value($node, qq{
SELECT string_agg(to_char(from_ts, '} . ($format // 'MM-DD') . qq{'), ' '
	ORDER BY from_ts)
FROM seen WHERE dag_id = '$dag_id'});
}

sub drop_dag
{
	return $node->safe_psql('postgres', "SELECT flow_drop_dag('$_[0]')");
}

# ------------------------------------------------------------------------
# start_date 2020-01-01 10:00, every 10 minutes

dag('ten minutes', "'10 minutes', '2020-01-01 10:00'");
dag('ten minutes by cron', "'*/10 * * * *', '2020-01-01 10:00'");
advance($node, '2020-01-01 10:09:59.999999+00');
is(seen('ten minutes'), '', 'no interval runs before it has ended');
advance($node, '2020-01-01 10:10+00');
is(seen('ten minutes', 'HH24:MI'), '10:00', 'the first run starts at 10:10 for 10:00');
is(seen('ten minutes by cron', 'HH24:MI'), '10:00', 'also where cron says so');
advance($node, '2020-01-01 10:45+00');
is(seen('ten minutes', 'HH24:MI'), '10:00 10:10 10:20 10:30', 'and so on');
shows($node,
	q{SELECT DISTINCT until_ts - from_ts FROM seen},
	'00:10:00', 'each 10 minutes long');
drop_dag($_) foreach ('ten minutes', 'ten minutes by cron');

# ------------------------------------------------------------------------
# start_date 2020-08-10 02:00, daily at 02:00, catchup

advance($node, '2020-08-09 12:00+00');
dag('at two in time', "'0 2 * * *', '2020-08-10 02:00', catchup => true");
foreach my $day (11 .. 13)
{
	my @before = map { "08-$_" } 10 .. $day - 2;
	my @after = map { "08-$_" } 10 .. $day - 1;

	advance($node, "2020-08-$day 01:59:59+00");
	is(seen('at two in time'), "@before", "before 02:00 of day $day");
	advance($node, "2020-08-$day 02:00+00");
	is(seen('at two in time'), "@after", "at 02:00 of day $day the day before runs");
}

# first switched on at 2020-08-13 20:00
advance($node, '2020-08-13 20:00+00');
dag('at two late', "'0 2 * * *', '2020-08-10 02:00', catchup => true");
advance($node, '2020-08-13 20:00+00');
is(seen('at two late', 'MM-DD HH24:MI'), '08-10 02:00 08-11 02:00 08-12 02:00',
	'switched on late: three runs are made up for');
shows($node,
	q{SELECT DISTINCT until_ts - from_ts FROM seen WHERE dag_id = 'at two late'},
	'1 day',
	'each interval ends 24 h later');
shows($node,
	q{SELECT string_agg(logical_date::text, ' ' ORDER BY logical_date) FROM flow.dag_run
		WHERE dag_id = 'at two late'},
	'2020-08-10 02:00:00+00 2020-08-11 02:00:00+00 2020-08-12 02:00:00+00',
	'the logical date is the start');
drop_dag($_) foreach ('at two in time', 'at two late');

# ------------------------------------------------------------------------
# a daily load that must read from 2020-11-07 on

$node->safe_psql('postgres', q{
CREATE TABLE source_row (day date, v int);
INSERT INTO source_row SELECT date '2020-11-05' + n / 10, n FROM generate_series(0, 49) n;
CREATE TABLE target_row (day date, v int, read_in bigint);
});
advance($node, '2020-11-06 12:00+00');
define($node, q{
SELECT flow_create_dag('daily load', '@daily', '2020-11-07');
SELECT flow_add_sql('daily load', 'load', 'INSERT INTO target_row
	SELECT day, v, run.run_id FROM source_row
	WHERE day >= run.data_interval_start AND day < run.data_interval_end');
});
advance($node, '2020-11-07 23:59:59.999999+00');
shows($node,
	'SELECT count(*) FROM flow.dag_run WHERE dag_id = ' . "'daily load'",
	'0', 'the first run does not start on 2020-11-07');
advance($node, '2020-11-08 00:00+00');
shows($node,
	'SELECT day, count(*), min(v) FROM target_row GROUP BY 1',
	'2020-11-07|10|20',
	'it starts on 2020-11-08 and reads the data of 2020-11-07');
advance($node, '2020-11-09 08:00+00');
shows($node,
	'SELECT day, count(*), count(DISTINCT read_in) FROM target_row GROUP BY 1 ORDER BY 1',
	"2020-11-07|10|1\n2020-11-08|10|1", 'the next one reads the next day');
drop_dag('daily load');

# ------------------------------------------------------------------------
# start_date 2021-10-28 22:00, */10, switched on just before 22:30

advance($node, '2021-10-28 22:29:59.999+00');
dag('just before', "'*/10 * * * *', '2021-10-28 22:00'");
advance($node, '2021-10-28 22:29:59.999+00');
is(seen('just before', 'HH24:MI'), '22:00 22:10', 'two runs are made up for');
shows($node,
	q{SELECT next_run_at FROM flow.dag_status WHERE dag_id = 'just before'},
	'2021-10-28 22:30:00+00',
	'the third is due at 22:30');
advance($node, '2021-10-28 22:30+00');
is(seen('just before', 'HH24:MI'), '22:00 22:10 22:20', 'and runs then');
drop_dag('just before');

# ------------------------------------------------------------------------
# days 1 and 2, paused, resumed on day 5

advance($node, '2024-03-01 00:00+00');
dag('paused', "'\@daily', '2024-03-01', catchup => true");
dag('paused latest', "'\@daily', '2024-03-01', catchup => false");
dag('paused skip', "'\@daily', '2024-03-01', catchup => true");
my @paused = ('paused', 'paused latest', 'paused skip');
advance($node, '2024-03-02 00:00+00');
advance($node, '2024-03-03 06:00+00');
is(seen($_), '03-01 03-02', "$_: days 1 and 2 have run") foreach @paused;
$node->safe_psql('postgres', "SELECT flow_pause('$_')") foreach @paused;
advance($node, '2024-03-05 12:00+00');
is(seen($_), '03-01 03-02', "$_: nothing runs while it is paused") foreach @paused;
shows($node,
	q{SELECT * FROM flow_due_runs('paused', '2024-03-05 12:00+00')},
	"2024-03-03 00:00:00+00|2024-03-04 00:00:00+00\n2024-03-04 00:00:00+00|2024-03-05 00:00:00+00",
	'what would run is known');
$node->safe_psql('postgres', q{
SELECT flow_resume('paused');
SELECT flow_resume('paused latest');
SELECT flow_resume('paused skip', skip_missed => true);
});
advance($node, '2024-03-05 12:00+00');
is(seen('paused'), '03-01 03-02 03-03 03-04',
	'with catchup days 3 and 4 are made up for, and none twice');
is(seen('paused latest'), '03-01 03-02 03-04', 'without only the latest');
is(seen('paused skip'), '03-01 03-02', 'skipping what was missed, none');
advance($node, '2024-03-06 00:00+00');
is(seen('paused'), '03-01 03-02 03-03 03-04 03-05', 'with catchup it goes on');
is(seen('paused latest'), '03-01 03-02 03-04 03-05', 'without, too');
is(seen('paused skip'), '03-01 03-02 03-05', 'and after skipping');
drop_dag($_) foreach @paused;

# ------------------------------------------------------------------------
# never run before; no catchup; no start; end_date

advance($node, '2024-04-10 06:30+00');
dag('new with catchup', "'\@daily', '2024-04-01', catchup => true");
dag('new without catchup', "'\@daily', '2024-04-01', catchup => false");
dag('new without start', "'\@daily'");
dag('ends', "'0 */12 * * *', '2024-04-09', '2024-04-12'");
dag('ends at noon', "'0 */12 * * *', '2024-04-09', '2024-04-11 12:00'");
advance($node, '2024-04-10 06:30+00');
is(seen('new with catchup'), '04-01 04-02 04-03 04-04 04-05 04-06 04-07 04-08 04-09',
	'never run, catchup: from start_date');
is(seen('new without catchup'), '04-09', 'no catchup: the latest complete interval');
is(seen('new without start'), '', 'no start_date: nothing yet');
advance($node, '2024-04-11 00:00+00');
advance($node, '2024-04-12 00:00+00');
is(seen('new without start'), '04-11',
	'the first interval is the one that starts after the definition');
is(seen('new without catchup'), '04-09 04-10 04-11',
	'no catchup: then one after the other');
advance($node, '2024-04-20 00:00+00');
is(seen('ends', 'DD HH24'), '09 00 09 12 10 00 10 12 11 00 11 12 12 00 12 12',
	'an end_date at midnight means that whole day');
is(seen('ends at noon', 'DD HH24'), '09 00 09 12 10 00 10 12 11 00 11 12',
	'at another time it is the last start');
shows($node,
	q{SELECT next_run_at IS NULL FROM flow.dag_status WHERE dag_id = 'ends'},
	't', 'nothing comes after it');

# Without catchup a jump over many days makes one run, not all.
is(seen('new without catchup'), '04-09 04-10 04-11 04-19',
	'no catchup: a jump of the clock leaves out what was missed');

# A clock that jumps back makes nothing twice.
my $count = value($node, 'SELECT count(*) FROM flow.dag_run');
advance($node, '2024-04-15 00:00+00');
advance($node, '2024-04-20 00:00+00');
shows($node,
	'SELECT count(*) FROM flow.dag_run',
	$count, 'a clock that jumps back makes nothing twice');

# More is missed than may run at once: all is made up for all the same.
dag('hourly', "'\@hourly', '2024-04-10', max_active_runs => 3");
advance($node, '2024-04-20 00:00+00');
shows($node,
	q{SELECT count(*), count(DISTINCT from_ts), min(from_ts), max(from_ts) FROM seen
		WHERE dag_id = 'hourly'},
	'240|240|2024-04-10 00:00:00+00|2024-04-19 23:00:00+00',
	'240 missed hours are made up for, each once');
drop_dag($_)
  foreach ('new with catchup', 'new without catchup', 'new without start', 'ends', 'ends at noon', 'hourly');

# ------------------------------------------------------------------------
# a range of past days again: the data are those of the run's interval

$node->safe_psql('postgres', q{
TRUNCATE source_row, target_row;
INSERT INTO source_row SELECT date '2024-05-01' + n, n FROM generate_series(0, 9) n;
});
advance($node, '2024-05-01 00:00+00');
define($node, q{
SELECT flow_create_dag('again', '@daily', '2024-05-01');
SELECT flow_add_sql('again', 'load', 'DELETE FROM target_row WHERE day = run.ds;
	INSERT INTO target_row SELECT day, v, run.try_number FROM source_row
		WHERE day = run.ds');
});
advance($node, '2024-05-11 00:00+00');
shows($node,
	'SELECT count(*), min(day), max(day), max(read_in) FROM target_row',
	'10|2024-05-01|2024-05-10|1', 'ten days are loaded');
$node->safe_psql('postgres', 'UPDATE source_row SET v = v + 100');
shows($node,
	q{SELECT logical_date, action
		FROM flow_preview_backfill('again', '2024-05-03', '2024-05-04', reprocess => 'completed')},
	"2024-05-03 00:00:00+00|rerun\n2024-05-04 00:00:00+00|rerun",
	'a preview tells what would run again');
shows($node,
	q{SELECT count(*) FROM flow_preview_backfill('again', '2024-05-03', '2024-05-04')
		WHERE action NOT LIKE 'skip:%'},
	'0', 'what has succeeded does not unless asked for');
my $backfill = backfill($node, 'again', '2024-05-03', '2024-05-04', reprocess => "'completed'");
is(wait_for_backfill($node, $backfill), 'success', 'days 3 and 4 are run again');
shows($node,
	'SELECT string_agg(v::text, $$ $$ ORDER BY day), string_agg(read_in::text, $$ $$
		ORDER BY day) FROM target_row',
	'0 1 102 103 4 5 6 7 8 9|1 1 2 2 1 1 1 1 1 1',
	'and read what is there for these days now');
shows($node,
	q{SELECT count(*), count(DISTINCT logical_date) FROM flow.dag_run
		WHERE dag_id = 'again'},
	'10|10',
	'in the runs that were there');
shows($node,
	q{SELECT count(*) FROM flow.task_attempt WHERE dag_id = 'again'},
	'12', 'with their old attempts on record');
$backfill = backfill($node, 'again', '2024-04-29', '2024-05-01', reprocess => "'none'");
is(wait_for_backfill($node, $backfill), 'success',
	'days before start_date may be asked for');
shows($node,
	q{SELECT string_agg(to_char(logical_date, 'MM-DD'), ' ' ORDER BY logical_date)
	FROM flow.backfill_run JOIN flow.dag_run USING (run_id)
	WHERE backfill_run.backfill_id = } . $backfill,
	'04-29 04-30', 'and what is there is left out');
drop_dag('again');

# ------------------------------------------------------------------------
# a backfill can be paused, resumed and cancelled, and says how far it is

define($node, q{
SELECT flow_create_dag('far', '@daily', '2024-05-01', is_paused => true);
SELECT flow_add_sql('far', 'pass', 'SELECT pg_advisory_xact_lock_shared(extract(day
	FROM run.ds)::bigint)');
});

my $status = 'SELECT state, total, success, failed, running, pending, percent
	FROM flow.backfill_status WHERE backfill_id =';
my $gate = close_gate($node, 4);
$backfill = backfill($node, 'far', '2024-05-01', '2024-05-10', max_active_runs => 1);
wait_for($node,
	'SELECT count(*) = 1 FROM flow.running JOIN flow.dag_run USING (run_id)
		WHERE to_char(logical_date, $$DD$$) = $$04$$',
	'day 4 to run');
shows($node,
	"$status $backfill",
	'running|10|3|0|1|6|30.0', 'after three days of ten it says so');
$node->safe_psql('postgres', "SELECT flow_pause_backfill($backfill)");
wait_for($node,
	"SELECT state = 'paused' FROM flow.backfill WHERE backfill_id = $backfill",
	'the pause');
$gate->open;
wait_for($node,
	"SELECT success = 4 FROM flow.backfill_status WHERE backfill_id = $backfill",
	'the fourth day to end');
advance($node, '2024-05-11 00:00+00');
shows($node,
	"$status $backfill",
	'paused|10|4|0|0|6|40.0', 'paused, it starts no further run');
like(value($node, q{SELECT string_agg(DISTINCT waits_for, ' ') FROM flow.task_status
	WHERE dag_id = 'far' AND run_state = 'queued'}),
	qr/^backfill: paused$/, 'and task_status says why');

$gate = close_gate($node, 7);
$node->safe_psql('postgres', "SELECT flow_resume_backfill($backfill)");
wait_for($node,
	'SELECT count(*) = 1 FROM flow.running JOIN flow.dag_run USING (run_id)
		WHERE to_char(logical_date, $$DD$$) = $$07$$',
	'day 7 to run');
shows($node,
	"$status $backfill",
	'running|10|6|0|1|3|60.0', 'resumed, it goes on');
$node->safe_psql('postgres', "SELECT flow_cancel_backfill($backfill)");
is(wait_for_backfill($node, $backfill), 'cancelled',
	'cancelled, it ends, also the task that waits');
shows($node,
	"$status $backfill",
	'cancelled|10|6|0|0|0|100.0', 'with what it has done');
shows($node,
	q{SELECT state, count(*) FROM flow.dag_run WHERE dag_id = 'far' GROUP BY 1
		ORDER BY 1},
	"cancelled|4\nsuccess|6",
	'its other runs are cancelled');
shows($node,
	q{SELECT covered FROM flow.coverage WHERE dag_id = 'far'},
	'{["2024-05-01 00:00:00+00","2024-05-07 00:00:00+00")}', 'and cover nothing');
$gate->open;

$backfill = backfill($node, 'far', '2024-05-01', '2024-05-10');
my ($code, $stdout, $stderr) = $node->psql('postgres', "CALL flow_wait_backfill($backfill)");
is($code, 0, 'flow_wait_backfill waits for the end');
like($stderr, qr/4 of 4 runs/, 'and shows how far it is');
shows($node,
	"SELECT state, total, success FROM flow.backfill_status
		WHERE backfill_id = $backfill",
	'success|4|4',
	'asked for again, what was cancelled is made up for');
shows($node,
	q{SELECT state, count(*) FROM flow.dag_run WHERE dag_id = 'far' GROUP BY 1},
	'success|10', 'in the runs that were there');

$node->stop;
done_testing();
