
# Requests that cannot be carried out are put off, one by one, and hold up
# nothing but what was asked of the same DAG after them.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use FlowpgTest;

my $node = new_node('requests', conf => q{flowpg.simulated_now = '2024-06-01 00:00:00+00'});

define($node, q{
SELECT flow_create_dag('other');
SELECT flow_add_sql('other', 'a', 'SELECT 1');
SELECT flow_create_dag('b');
SELECT flow_add_sql('b', 'a', 'SELECT 1');
});

# What others do goes on while a request waits.
sub others_go_on
{
	my ($what) = @_;

	is(wait_for_run($node, trigger($node, 'other')), 'success', "$what: other runs go on");
	return;
}

sub open_requests
{
	my ($dag) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT string_agg(kind, ' ' ORDER BY request_id) FROM flow.request WHERE dag_id = '$dag'});
}

sub wait_until_put_off
{
	my ($request, $offset) = @_;

	return wait_for_log_line($node, qr/WARNING:  flowpg has put off request \d+ \($request/, $offset);
}

sub wait_until_done
{
	my ($dag) = @_;

	return wait_for($node, "SELECT count(*) = 0 FROM flow.request WHERE dag_id = '$dag'", "the requests of $dag");
}

# ------------------------------------------------------------------------
# A lock on the row of dag_log that is to be taken back

my $first = trigger($node, 'b', logical_date => '2024-05-01');
my $offset = -s $node->logfile;
my $holder = $node->background_psql('postgres');

wait_for_run($node, $first);
$holder->query_safe(q{BEGIN; DELETE FROM flow.dag_log WHERE dag_id = 'b'});
$node->safe_psql('postgres', q{SELECT flow_clear('b')});
$offset = wait_until_put_off('clear, dag "b"', $offset);
others_go_on('a locked clear');

my $second = trigger($node, 'b', logical_date => '2024-05-02');
others_go_on('what waits behind it');
is(open_requests('b'), 'clear run', 'what was asked of the DAG after it waits');
is(run_state($node, $second), 'queued', 'and has not begun');

# A definition is read at once, all the same.
$node->safe_psql('postgres', q{SELECT flow_add_sql('b', 'z', 'SELECT 1')});
wait_for($node, q{SELECT count(*) = 0 FROM flow.request WHERE kind = 'dag'}, 'the definition to be read');

$holder->query_safe('ROLLBACK');
wait_until_done('b');
is(wait_for_run($node, $first), 'success', 'the run is run again');
is(wait_for_run($node, $second), 'success', 'and the next one after it');
is($node->safe_psql('postgres', "SELECT max(try_number) FROM flow.task_run WHERE run_id = $first"), '2', 'it was cleared once');

# A DAG that is dropped meanwhile, and another one that has its name.
define($node, q{
SELECT flow_create_dag('g', max_active_runs => 10);
SELECT flow_add_sql('g', 'a', 'SELECT 1');
CREATE TABLE ran (run_id bigint);
});
my $old = trigger($node, 'g', logical_date => '2024-05-01');

wait_for_run($node, $old);
$holder->query_safe(q{BEGIN; DELETE FROM flow.dag_log WHERE dag_id = 'g'});
$node->safe_psql('postgres', q{SELECT flow_clear('g')});
$offset = wait_until_put_off('clear, dag "g"', $offset);
my $never = trigger($node, 'g', logical_date => '2024-05-02');
$node->safe_psql('postgres', q{SELECT flow_drop_dag('g')});
define($node, q{
SELECT flow_create_dag('g', max_active_runs => 10);
SELECT flow_add_sql('g', 'a', 'INSERT INTO ran VALUES (run.run_id)');
});
my $new = trigger($node, 'g', logical_date => '2024-05-03');
# a scheduler that reads all of this out of the tables
my $scheduler = scheduler_pid($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($scheduler)");
wait_for_scheduler($node, not_pid => $scheduler);
others_go_on('a drop that waits');
$holder->query_safe('ROLLBACK');
wait_until_done('g');
is(wait_for_run($node, $new), 'success', 'a run of the new DAG');
is(run_state($node, $old), 'success', 'the one that was to be run again is left as it was');
is(run_state($node, $never), 'cancelled', 'the one that had not begun is cancelled');
is($node->safe_psql('postgres', 'SELECT string_agg(run_id::text, \' \') FROM ran'), $new, 'nothing of the old DAG is run as the new one');

# Likewise for a backfill that runs it again.
define($node, q{
SELECT flow_create_dag('s', '@daily', '2024-05-20', '2024-05-21');
SELECT flow_add_sql('s', 'a', 'SELECT 1');
});
wait_for($node, q{SELECT count(*) = 2 FROM flow.dag_run WHERE dag_id = 's' AND state = 'success'}, 'both days');
$holder->query_safe(q{BEGIN; DELETE FROM flow.dag_log WHERE dag_id = 's'});
my $backfill = backfill($node, 's', '2024-05-20', '2024-05-21', reprocess => "'completed'");
$offset = wait_until_put_off('backfill, dag "s"', $offset);
others_go_on('a locked backfill');
$holder->query_safe('ROLLBACK');
is(wait_for_backfill($node, $backfill), 'success', 'the backfill is run');
is($node->safe_psql('postgres', q{SELECT string_agg(try_number::text, ' ') FROM flow.task_run WHERE dag_id = 's'}), '2 2', 'once');

# ------------------------------------------------------------------------
# A run that a session has made and not committed

define($node, q{
SELECT flow_create_dag('t', start_date => '2024-01-01');
SELECT flow_add_sql('t', 'a', 'SELECT 1');
SELECT flow_create_dag('u', start_date => '2024-01-01');
SELECT flow_add_sql('u', 'a', 'SELECT 1');
INSERT INTO flow.dependency_manager (tobe_dag, asis_dag) VALUES ('t', 'ext'), ('u', 'ext');
});
$holder->query_safe(q{BEGIN; SELECT flow_backfill('t', '2024-03-01', '2024-03-01')});
$node->safe_psql('postgres', q{INSERT INTO flow.dag_log (dag_id, completion_date) VALUES ('ext', '2024-03-02')});
$offset = wait_until_put_off('dag_log, dag "ext"', $offset);
others_go_on('a locked word');
wait_for($node, q{SELECT count(*) = 1 FROM flow.dag_run WHERE dag_id = 'u' AND state = 'success'}, 'the other DAG that waits for it');
pass('the word counts for the other DAG at once');
$holder->query_safe('ROLLBACK');
wait_for($node, q{SELECT count(*) = 1 FROM flow.dag_run WHERE dag_id = 't' AND state = 'success'}, 'the run that was locked');
wait_until_done('ext');
is($node->safe_psql('postgres', q{SELECT string_agg(dag_id, ' ' ORDER BY dag_id) FROM flow.dag_run WHERE dag_id IN ('t', 'u')}),
	't u', 'each has one run');

# A DAG that makes up for its pause.
define($node, q{
SELECT flow_create_dag('v', start_date => '2024-01-01');
SELECT flow_add_sql('v', 'a', 'SELECT 1');
SELECT flow_add_dependency('b', 'v');
});
$node->safe_psql('postgres', q{SELECT flow_pause('v')});
wait_until_done('v');
wait_for_run($node, trigger($node, 'b', logical_date => '2024-05-10'));
$holder->query_safe(q{BEGIN; SELECT flow_backfill('v', '2024-05-08', '2024-05-10')});
$node->safe_psql('postgres', q{SELECT flow_resume('v')});
$offset = wait_until_put_off('dag, dag "v"', $offset);
others_go_on('a locked resumption');
$holder->query_safe('ROLLBACK');
wait_for($node, q{SELECT count(*) = 1 FROM flow.dag_run WHERE dag_id = 'v' AND state = 'success'}, 'the run that was missed');
pass('it is made up for after the lock');

# ------------------------------------------------------------------------
# Many runs of which none can end: they do not wait one after the other.

$holder->query_safe(q{BEGIN; INSERT INTO flow.dag_log (dag_id, completion_date) VALUES ('many', '2024-06-01')});
define($node, q{
SELECT flow_create_dag('many', max_active_runs => 100000);
SELECT flow_add_sql('many', 'a', 'SELECT 1');
SELECT count(flow_trigger('many')) FROM generate_series(1, 2000);
});
wait_for($node, q{SELECT count(*) = 2000 FROM flow.task_run WHERE dag_id = 'many' AND state = 'success'}, 'their tasks');
others_go_on('runs that cannot end');
$holder->query_safe('ROLLBACK');
wait_for($node, q{SELECT count(*) = 2000 FROM flow.dag_run WHERE dag_id = 'many' AND state = 'success'}, 'all runs');
pass('all end after the lock');

# ------------------------------------------------------------------------
# Requests that fail for another reason, now and ever

my $offset_of_bad = -s $node->logfile;

$node->safe_psql('postgres', q{
CREATE ROLE mallory;
SELECT flow_create_dag('bad'), flow_add_sql('bad', 'a', 'SELECT 1');
SELECT flow_trigger('bad')});
wait_for($node, q{SELECT count(*) = 1 FROM flow.dag_run WHERE dag_id = 'bad' AND state = 'success'}, 'the run');
# more than the scheduler is told of one by one: it looks at all
define($node, q{
INSERT INTO flow.request (kind, dag_id, run_id, args, requested_by, requested_at)
SELECT 'mark', CASE WHEN i = 1 THEN 'bad' ELSE 'bad' || i END, run_id, '{"task_ids": ["a"], "state": "nonsense"}', 'mallory', now()
FROM flow.dag_run, generate_series(1, 300) i WHERE dag_id = 'bad';
SELECT flow_clear('bad');
SELECT flow_trigger('other') FROM generate_series(1, 130);
});
wait_until_put_off('mark, dag "bad"', $offset_of_bad);
wait_for($node, q{SELECT count(*) = 0 FROM flow.request WHERE dag_id = 'other'}, 'the requests of others');
others_go_on('three hundred that fail');
wait_until_put_off('mark, dag "bad2"', $offset_of_bad);
others_go_on('one after the other');
is(open_requests('bad'), 'mark clear', 'nothing is lost, and the order kept');
like($node->safe_psql('postgres', q{SELECT problem FROM flow.scheduler_status}),
	qr/^\d+ requests cannot be carried out and are put off/, 'scheduler_status tells of them');
my @warnings = slurp_file($node->logfile, $offset_of_bad) =~ /put off request \d+ \(mark, dag "bad", /g;
is(scalar @warnings, 1, 'the log tells of each once');

$node->restart;
wait_for_scheduler($node);
others_go_on('after a restart');
is(open_requests('bad'), 'mark clear', 'they are still there');

$node->safe_psql('postgres', q{DELETE FROM flow.request WHERE requested_by = 'mallory'::regrole});
wait_until_done('bad');
wait_for($node, q{SELECT count(*) = 1 FROM flow.task_run WHERE dag_id = 'bad' AND state = 'success' AND try_number = 2}, 'what had waited');
pass('what had waited goes on without them');
wait_for($node, q{SELECT problem IS NULL FROM flow.scheduler_status}, 'the problem to be gone');

# One that fails while a DAG waits to be made anew
my $daily = q{SELECT flow_create_dag('daily', '@daily', '2024-05-25'); SELECT flow_add_sql('daily', 'a', 'SELECT 1')};
my $succeeded = q{FROM flow.dag_run r JOIN flow.dag d USING (dag_id) WHERE dag_id = 'daily' AND state = 'success' AND r.version >= first_version};

define($node, $daily);
wait_for($node, "SELECT count(*) = 7 $succeeded", 'a week');
define($node, qq{
INSERT INTO flow.request (kind, dag_id, run_id, args, requested_by, requested_at)
SELECT 'mark', 'bad', run_id, '{"task_ids": ["a"], "state": "nonsense"}', 'mallory', now() FROM flow.dag_run WHERE dag_id = 'bad';
SELECT flow_trigger('other') FROM generate_series(1, 130);
SELECT flow_drop_dag('daily');
$daily;
});
wait_for($node, "SELECT count(*) = 7 $succeeded", 'a week of the new DAG');
pass('a DAG that is made anew then has all its runs');
is($node->safe_psql('postgres', q{SELECT count(*) FROM flow.dag_run WHERE dag_id = 'daily'}), '7', 'which were those of the old one');

$holder->quit;
$node->stop;

done_testing();
