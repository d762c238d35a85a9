
# Many tasks: a DAG of 1,000, and 10,000 short ones in 100 runs, with failures,
# branches and trigger rules between, whose states a few lines of Perl predict.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use FlowpgTest;
use FlowpgLoad;

my $node = new_node('scale', conf => "flowpg.max_workers = 8\n");

$node->safe_psql('postgres', q{
CREATE TABLE effect (run_id bigint, task_id text);
});

# ------------------------------------------------------------------------
# One DAG of 1,000 tasks: 20 layers of 50.  A task waits for three of the layer
# before; every 97th fails, and every 7th goes by another trigger rule.

my @rules = qw(all_done one_failed none_failed one_success all_failed none_skipped);
my (@tasks, %upstream, %rule, %expected, %mended);
foreach my $n (0 .. 999)
{
	my $layer = int($n / 50);
	my $task = sprintf 't%03d', $n;

	push @tasks, $task;
	$upstream{$task} = $layer == 0 ? [] : [ map { $tasks[ ($layer - 1) * 50 + ($n * $_ + $_) % 50 ] } 1, 3, 11 ];
	$rule{$task} = $n % 7 == 6 ? $rules[ $n / 7 % @rules ] : 'all_success';
	$expected{$task} = expected_state($n % 97 == 13, $rule{$task}, map { $expected{$_} } @{ unique($upstream{$task}) });
	$mended{$task} = expected_state(0, $rule{$task}, map { $mended{$_} } @{ unique($upstream{$task}) });
}

sub unique
{
	my %seen;

	return [ grep { !$seen{$_}++ } @{ $_[0] } ];
}

# What becomes of a task by its trigger rule and the states of its upstreams.
sub expected_state
{
	my ($is_faulty, $rule, @states) = @_;
	my $failed = grep { $_ eq 'failed' || $_ eq 'upstream_failed' } @states;
	my $skipped = grep { $_ eq 'skipped' } @states;
	my $succeeded = @states - $failed - $skipped;
	my $runs = $is_faulty ? 'failed' : 'success';

	return $runs if !@states || $rule eq 'all_done';
	return $failed == @states ? $runs : 'skipped' if $rule eq 'all_failed';
	return $failed ? $runs : 'skipped' if $rule eq 'one_failed';
	return $skipped ? 'skipped' : $runs if $rule eq 'none_skipped';
	return $failed ? 'upstream_failed' : $runs if $rule eq 'none_failed';
	return $runs if $rule eq 'one_success' ? $succeeded : $succeeded == @states;
	return $failed ? 'upstream_failed' : 'skipped';
}

my $since = time;
$node->safe_psql('postgres', q{SELECT flow_apply(jsonb_build_object('dag_id', 'large', 'max_active_tasks', 100, 'tasks', jsonb_agg(t.task))) FROM (VALUES }
	  . join(",\n", map {
		my $n = substr $_, 1;
		my $command = $n % 97 == 13 ? 'SELECT 1 / 0' : 'INSERT INTO effect VALUES (run.run_id, run.task_id)';

		sprintf q{(jsonb_build_object('task_id', '%s', 'operator', 'sql', 'command', '%s', 'trigger_rule', '%s', 'upstream', '[%s]'::jsonb))},
		  $_, $command, $rule{$_}, join ',', map { qq{"$_"} } @{ unique($upstream{$_}) };
	  } @tasks)
	  . ') t (task)');
note(sprintf 'defined in %.1f s', time - $since);
is(value($node, q{SELECT count(*), (SELECT count(*) FROM flow.task_dependency WHERE dag_id = 'large') FROM flow.task WHERE dag_id = 'large'}),
	'1000|' . eval { my $n = 0; $n += @{ unique($_) } foreach values %upstream; $n }, 'a DAG of 1,000 tasks');

$since = time;
my $run = trigger($node, 'large');
is(wait_for_run($node, $run), (grep { $expected{$_} =~ /failed/ } leaves()) ? 'failed' : 'success', 'its run ends, in the state of its leaves');
note(sprintf 'run in %.1f s', time - $since);

# Tasks that no other task waits for.
sub leaves
{
	my %is_upstream = map { $_ => 1 } map { @$_ } values %upstream;

	return grep { !$is_upstream{$_} } @tasks;
}

# Tasks that are not in the state that they should be in.
sub wrong_tasks
{
	my ($expected) = @_;
	my %states = map { split /\|/ } split /\n/, value($node, "SELECT task_id, state FROM flow.task_status WHERE run_id = $run");
	my @wrong = grep { ($states{$_} // 'NULL') ne $expected->{$_} } @tasks;

	return join ', ', map {
		"$_ ($rule{$_}) is " . ($states{$_} // 'NULL') . " and not $expected->{$_} after " . join ' ', map { $expected->{$_} } @{ $upstream{$_} }
	} @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ];
}

is(wrong_tasks(\%expected), '', 'and each task in the state that its upstreams lead to');
my %count;
$count{$_}++ foreach values %expected;
is(join(' ', map { "$_ " . ($count{$_} > 20 ? 'many' : 'few') } sort keys %count), 'failed few skipped many success many upstream_failed many', 'all states are among them')
  or diag(join ' ', map { "$_ $count{$_}" } sort keys %count);
is(value($node, "SELECT count(*), count(DISTINCT task_id) FROM effect WHERE run_id = $run"), "$count{success}|$count{success}", 'what has succeeded has done its work once');

# The faults are mended: what has failed, and what follows it, is run again.
$node->safe_psql('postgres', q{
SELECT flow_add_sql('large', t.task_id, 'INSERT INTO effect VALUES (run.run_id, run.task_id)', trigger_rule => t.trigger_rule,
	upstream => (SELECT coalesce(array_agg(upstream_task_id), '{}') FROM flow.task_dependency d WHERE (d.dag_id, d.downstream_task_id) = (t.dag_id, t.task_id)))
FROM flow.task t WHERE dag_id = 'large' AND params ->> 'command' = 'SELECT 1 / 0'});
cmp_ok(value($node, q{SELECT flow_clear('large', (SELECT min(logical_date)::date FROM flow.dag_run), only_failed => true)}), '<', 1000, 'what has failed is cleared');
is(value($node, "SELECT flow_wait_run($run)"), 'success', 'mended, the run succeeds');
is(wrong_tasks(\%mended), '', 'and each task is in the state that it should be in now');

# ------------------------------------------------------------------------
# 10,000 short tasks: 100 runs of ten chains of ten.  In every tenth run the fifth
# task of chain 3 fails.

define($node, q{
SELECT flow_create_dag('short', max_active_runs => 20, max_active_tasks => 100);
SELECT flow_add_sql('short', format('c%s_%s', c, n), CASE WHEN (c, n) = (3, 5)
		THEN 'SELECT 1 / ((run.conf ->> ''n'')::int % 10); ' ELSE '' END || 'INSERT INTO effect VALUES (run.run_id, run.task_id)',
	upstream => CASE WHEN n > 0 THEN ARRAY[format('c%s_%s', c, n - 1)] ELSE '{}' END)
FROM generate_series(0, 9) n, generate_series(0, 9) c;
});
$since = time;
$node->safe_psql('postgres', q{SELECT flow_trigger('short', conf => jsonb_build_object('n', n)) FROM generate_series(1, 100) n});
wait_for($node, q{SELECT count(*) = 100 AND count(ended_at) = 100 FROM flow.dag_run WHERE dag_id = 'short'}, '100 runs');
note(sprintf '10,000 tasks in %.1f s', time - $since);
is(value($node, q{SELECT state, count(*), count(*) FILTER (WHERE (conf ->> 'n')::int % 10 = 0) FROM flow.dag_run WHERE dag_id = 'short' GROUP BY 1 ORDER BY 1}),
	"failed|10|10\nsuccess|90|0", '100 runs end, ten of them as failed');
is(value($node, q{SELECT state, count(*), count(DISTINCT (run_id, task_id)) FROM flow.task_run WHERE dag_id = 'short' GROUP BY 1 ORDER BY 1}),
	"failed|10|10\nsuccess|9950|9950\nupstream_failed|40|40", '10,000 tasks are in the states that they should be in');

# One that had just nothing to do was once taken for one in the way of others.
shows($node, 'SELECT count(DISTINCT worker_pid) <= 8 FROM flow.task_attempt', 't', 'workers have stayed all the while');

is(value($node, q{SELECT count(*) FROM flow.task_run WHERE dag_id = 'short' AND (state <> 'success') <> (task_id ~ '^c3_[5-9]' AND run_id IN (SELECT run_id FROM flow.dag_run WHERE state = 'failed'))}),
	'0', 'each of them');
is(value($node, q{SELECT count(*), count(DISTINCT (run_id, task_id)) FROM effect JOIN flow.dag_run USING (run_id) WHERE dag_id = 'short'}), '9950|9950', 'what has succeeded has done its work once');
is(value($node, q{
SELECT count(*) FROM flow.task_run d JOIN flow.task_dependency e ON (e.dag_id, e.downstream_task_id) = (d.dag_id, d.task_id)
	JOIN flow.task_run u ON (u.run_id, u.task_id) = (d.run_id, e.upstream_task_id)
WHERE d.dag_id = 'short' AND d.started_at < u.ended_at}), '0', 'none has begun before the one that it waits for was done');
is(value($node, q{SELECT active_runs, ready_tasks, running_tasks FROM flow.scheduler_status}), '0|0|0', 'nothing is left over');

# ------------------------------------------------------------------------
# The row of each attempt is updated in its page, where it costs no index entry.

define($node, q{
SELECT flow_create_dag('flat', max_active_tasks => 10000);
SELECT flow_add_sql('flat', 't' || n, 'SELECT 1') FROM generate_series(1, 2000) n;
});
sub updates
{
	my ($column) = @_;

	return value($node, "SELECT $column FROM pg_stat_user_tables WHERE relid = 'flow.task_run'::regclass");
}

my $n_updates = updates('n_tup_upd');
my $n_elsewhere = updates('n_tup_upd - n_tup_hot_upd');
is(wait_for_run($node, trigger($node, 'flat')), 'success', '2,000 independent tasks');
wait_for($node, "SELECT n_tup_upd >= $n_updates + 2000 FROM pg_stat_user_tables WHERE relid = 'flow.task_run'::regclass", 'their updates are counted');
cmp_ok(updates('n_tup_upd - n_tup_hot_upd') - $n_elsewhere, '<=', 40, 'nearly all have found room in their pages');

$node->stop;
done_testing();
