
# One success that covers any number of intervals of a DAG which waits for it:
# no cycle of the scheduler goes over all of them, and each that all have
# succeeded for gets one run.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $node = new_node(
	'set_off', conf => q{
flowpg.simulated_now = '2024-05-10 00:00:00+00'
flowpg.max_workers = 2
});

# "seconds" is paused and has run where its coverage says so; "ages" covers 2,000
# years with one run, which are 6e10 seconds.  The pool keeps the runs that are
# set off from ending.
define($node, q{
SELECT flow_create_pool('closed', 1);
SELECT flow_create_dag('seconds', '1 second', '2024-05-01', is_paused => true);
SELECT flow_create_dag('ages', '@continuous', '0001-01-01', is_paused => true);
SELECT flow_create_dag('other');
SELECT flow_create_dag('both', max_active_runs => 1);
SELECT flow_create_dag('word', max_active_runs => 1);
SELECT flow_add_sql(d, 'step', 'SELECT 1') FROM unnest('{seconds,ages,other}'::text[]) d;
SELECT flow_add_sql(d, 'step', 'SELECT 1', pool => 'closed') FROM unnest('{both,word}'::text[]) d;
SELECT flow_create_pool('closed', 0);
SELECT flow_add_dependency('seconds', 'both'), flow_add_dependency('ages', 'both');
SELECT flow_add_dependency('seconds', 'word'), flow_add_dependency('outside', 'word');
INSERT INTO flow.coverage VALUES ('seconds', '{["2024-05-01 00:00:01+00","2024-05-01 00:20:01+00"),["2024-05-02 12:00:00+00","2024-05-02 12:00:00.5+00"),["2024-05-03 00:00:00.5+00","2024-05-03 00:30:00.5+00")}');
});

# So many seconds has "seconds" covered from end to end.
my $covered = 1200 + 1799;
my $runs_of = q{SELECT count(*), count(DISTINCT logical_date), min(data_interval_start), max(data_interval_end) FROM flow.dag_run WHERE dag_id = };
my $all_made = q{SELECT count(*) = 0 FROM flow.set_off};

# ------------------------------------------------------------------------
# A session has one of the runs, and does not commit: what comes before it is
# made, the rest stands in flow.set_off, over a crash of the server, too.

my $session = $node->background_psql('postgres');
$session->query_safe(q{
BEGIN;
INSERT INTO flow.dag_run (dag_id, run_type, logical_date, data_interval_start, data_interval_end, state, queued_at)
VALUES ('both', 'triggered', '2024-05-01 00:15:00+00', '2024-05-01 00:15:00+00', '2024-05-01 00:15:01+00', 'queued', '2024-05-10')});
my $offset = -s $node->logfile;
value($node, q{SELECT flow_resume('ages')});
wait_for($node, q{SELECT count(*) = 1 FROM flow.dag_run WHERE dag_id = 'ages' AND state = 'success'},
	'a run that covers 2,000 years by the second');
wait_for($node, qq{SELECT count(*) BETWEEN 500 AND 899 FROM flow.dag_run WHERE dag_id = 'both'}, 'the first runs that it sets off');
shows($node, q{SELECT count(*) > 0 FROM flow.set_off WHERE dag_id = 'both' AND from_at > '2024-05-01'}, 't', 'the others are left');
shows($node, q{SELECT count(*) FROM flow.dag_run WHERE dag_id = 'both' AND logical_date > '2024-05-01 00:15:00+00'}, '0',
	'what a session holds is waited for');
is(wait_for_run($node, trigger($node, 'other')), 'success', 'and other things go on meanwhile');
unlike(slurp_file($node->logfile, $offset), qr/scheduler ERROR/, 'without an error');
$node->stop('immediate');
eval { $session->quit };
$node->start;
wait_for_scheduler($node);
wait_for($node, $all_made, 'all runs to be made');
is(value($node, "$runs_of 'both'"), "$covered|$covered|2024-05-01 00:00:01+00|2024-05-03 00:30:00+00",
	'one run for each second that both have succeeded for');

# ------------------------------------------------------------------------
# The word of an outside system for many dates at once

value($node, q{INSERT INTO flow.dag_log (dag_id, completion_date) SELECT 'outside', d FROM generate_series(timestamp '2010-01-01', '2024-05-02', '1 day') d});
wait_for($node, 'SELECT count(*) = 0 FROM flow.request', 'the word to be taken in');
wait_for($node, $all_made, 'all runs to be made');
is(value($node, "$runs_of 'word'"), '1200|1200|2024-05-01 00:00:01+00|2024-05-01 00:20:01+00', 'one run for each second of these dates');
value($node, q{INSERT INTO flow.dag_log (dag_id, completion_date) VALUES ('outside', '2024-05-03')});
wait_for($node, "SELECT count(*) = $covered FROM flow.dag_run WHERE dag_id = 'word'", 'the runs of one more date');

# ------------------------------------------------------------------------
# What is left is found at a start; that of a dropped DAG is not for a new one of
# its name

$node->safe_psql('postgres', q{
UPDATE flow.coverage SET covered = covered + '{["2024-05-07 00:00+00","2024-05-07 00:01+00"),["2024-05-08 00:00+00","2024-05-08 00:01+00")}'
WHERE dag_id = 'seconds';
INSERT INTO flow.set_off (dag_id, first_version, from_at, until_at)
SELECT dag_id, first_version - 1, timestamptz '2024-05-07', timestamptz '2024-05-08' FROM flow.dag WHERE dag_id = 'both'
UNION ALL
SELECT dag_id, first_version, '2024-05-08', '2024-05-09' FROM flow.dag WHERE dag_id = 'both';
});
$node->restart;
wait_for_scheduler($node);
wait_for($node, $all_made, 'what is left to be made');
is(value($node, "SELECT min(data_interval_start), max(data_interval_end), count(*) FROM flow.dag_run WHERE dag_id = 'both' AND logical_date > '2024-05-04'"),
	'2024-05-08 00:00:00+00|2024-05-08 00:01:00+00|60', 'what is left is found at a start, and not what a dropped DAG has left');

$node->stop;
done_testing();
