
# The properties of limits and order, on random loads: no limit is ever passed,
# no ready task waits while all its limits have room, what is more important
# goes first, and nothing starves.
#
# That nothing waits without need is looked at where time stands still: each task
# stands at a gate, so that what runs stays, and after a while all that has room
# must be there.  That no limit is passed is counted under full load, from times
# that the tasks themselves note.
#
# FLOWPG_SEED is the first round's seed, FLOWPG_ROUNDS the number of rounds.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $first_seed = $ENV{FLOWPG_SEED} // 1;
my $nrounds = $ENV{FLOWPG_ROUNDS} // 12;

my $nworkers = 8;
my $backfill_share = 0.5;
my $ngates = 3;
my %pool_slots = (one => 1, three => 3, five => 5);
my @days = map { sprintf '2024-03-%02d', $_ } 1 .. 9;

my $node = new_node(
	'limits_property', conf => qq{
flowpg.simulated_now = '2024-03-10 00:00:00+00'
flowpg.max_workers = $nworkers
flowpg.backfill_worker_share = $backfill_share
max_connections = 60
});

$node->safe_psql('postgres', join "\n",
	map { "SELECT flow_create_pool('$_', $pool_slots{$_});" } sort keys %pool_slots);
$node->safe_psql('postgres', q{
-- What the DAGs of a round are, as the test knows it.  A queue is what has a
-- limit of runs of its own: 0 for a DAG's own runs, else a backfill_id.
CREATE TABLE known_task (dag_id text, task_id text, upstream text[], pool text, pool_slots int, gate int);
CREATE TABLE known_dag (dag_id text, max_active_tasks int, priority int);
CREATE TABLE known_queue (dag_id text, queue bigint, max_active_runs int, nruns int);
CREATE TABLE seen (run_id bigint, dag_id text, task_id text, started_at timestamptz, ended_at timestamptz);
CREATE TABLE turn (n serial, run_id bigint, task_id text);

CREATE FUNCTION stand_at_gate(gate int) RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock_shared(gate)';

-- Works for so long, and notes when: within the time in which the task holds its
-- worker and its slots.
CREATE FUNCTION work(run_id bigint, dag_id text, task_id text, milliseconds int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	started_at timestamptz := clock_timestamp();
BEGIN
	PERFORM pg_sleep(milliseconds / 1000.0);
	INSERT INTO seen VALUES (run_id, dag_id, task_id, started_at, clock_timestamp());
END $$;

CREATE VIEW run_of_queue AS
SELECT r.run_id, r.dag_id, coalesce(r.backfill_id, 0) AS queue, r.state
FROM flow.dag_run r JOIN known_dag USING (dag_id);

CREATE VIEW busy AS
SELECT t.run_id, t.dag_id, t.task_id, k.pool, k.pool_slots, k.gate, r.queue
FROM flow.task_run t JOIN run_of_queue r USING (run_id, dag_id) JOIN known_task k USING (dag_id, task_id)
WHERE t.state = 'running';

CREATE VIEW standing AS
SELECT b.*
FROM busy b JOIN flow.running w USING (run_id, task_id) JOIN pg_locks l ON l.pid = w.worker_pid AND l.locktype = 'advisory' AND NOT l.granted;

-- Tasks that nothing but limits can hold back, and which of them do.
CREATE VIEW ready AS
SELECT r.run_id, k.dag_id, k.task_id, r.queue,
	(SELECT count(*) FROM busy b WHERE b.dag_id = k.dag_id) >= d.max_active_tasks AS dag_is_full,
	(SELECT coalesce(sum(b.pool_slots), 0) FROM busy b WHERE b.pool = k.pool) + k.pool_slots > p.slots AS pool_is_full
FROM run_of_queue r JOIN known_task k USING (dag_id) JOIN known_dag d USING (dag_id) JOIN flow.pool p ON p.pool = k.pool
	LEFT JOIN flow.task_run t USING (run_id, task_id)
WHERE r.state = 'running' AND t.state IS NULL
	AND NOT EXISTS (SELECT FROM unnest(k.upstream) u
		LEFT JOIN flow.task_run v ON v.run_id = r.run_id AND v.task_id = u WHERE v.state IS DISTINCT FROM 'success');

CREATE VIEW queue_now AS
SELECT q.dag_id, q.queue, q.max_active_runs, q.nruns,
	count(r.run_id) FILTER (WHERE r.state = 'running') AS running, count(r.run_id) FILTER (WHERE r.state = 'success') AS success
FROM known_queue q LEFT JOIN run_of_queue r USING (dag_id, queue) GROUP BY 1, 2, 3, 4;
});

sub pick
{
	return $_[ int(rand(@_)) ];
}

# ------------------------------------------------------------------------
# Random DAGs, with runs by schedule, by hand and by backfill, all asked for at
# once.  The command of a task is made of its gate.

sub define_load
{
	my ($prefix, $ndags, $command) = @_;
	my @sql = ('TRUNCATE known_task, known_dag, known_queue, seen, turn');

	foreach my $n (1 .. $ndags)
	{
		my $dag = "$prefix $n";
		my $max_tasks = pick(1, 2, 3, 4, 16);
		my $max_runs = pick(1, 2, 3, 16);
		my $kind = pick('schedule', 'schedule', 'hand', 'backfill', 'both');
		my $is_scheduled = $kind eq 'schedule' || $kind eq 'both';
		my $nscheduled = $is_scheduled ? pick(1 .. 8) : 0;
		my $nmanual = $kind eq 'hand' ? pick(1 .. 6) : 0;
		my $priority = pick(0, 0, 0, 1, 5);

		push @sql, sprintf q{SELECT flow_create_dag('%s', %s, start_date => '%s', max_active_runs => %d, max_active_tasks => %d, priority => %d)},
		  $dag, $kind eq 'hand' ? 'NULL' : q{'@daily'}, $is_scheduled ? $days[ 9 - $nscheduled ] : '2024-03-10',
		  $max_runs, $max_tasks, $priority
		  if $kind ne 'backfill';
		# one whose intervals all lie ahead
		push @sql, sprintf q{SELECT flow_create_dag('%s', '@daily', start_date => '2024-04-01', max_active_tasks => %d, priority => %d)}, $dag, $max_tasks, $priority
		  if $kind eq 'backfill';
		push @sql, "INSERT INTO known_dag VALUES ('$dag', $max_tasks, $priority)";
		push @sql, "INSERT INTO known_queue VALUES ('$dag', 0, $max_runs, " . ($nscheduled + $nmanual) . ')'
		  if $nscheduled + $nmanual > 0;

		foreach my $i (0 .. int(rand(5)))
		{
			my $task = chr(ord('a') + $i);
			my $upstream = join ',', grep { rand() < 0.4 } map { chr(ord('a') + $_) } 0 .. $i - 1;
			my $pool = pick('default', 'default', 'default', sort keys %pool_slots);
			my $slots = $pool eq 'five' || $pool eq 'three' ? pick(1, 1, 2) : 1;
			my $gate = pick(1 .. $ngates);

			push @sql, sprintf q{SELECT flow_add_sql('%s', '%s', '%s', upstream => '{%s}', pool => '%s', pool_slots => %d, priority_weight => %d)},
			  $dag, $task, $command->($gate), $upstream, $pool, $slots, pick(1, 1, 2, 10);
			push @sql, "INSERT INTO known_task VALUES ('$dag', '$task', '{$upstream}', '$pool', $slots, $gate)";
		}
		push @sql, ("SELECT flow_trigger('$dag')") x $nmanual;

		# a range that lies before the schedule's
		foreach (1 .. ($kind eq 'both' ? 1 : $kind eq 'backfill' ? pick(1, 2) : 0))
		{
			my $nruns = pick(1 .. 8);
			my $at_once = pick(1, 2, 5);
			my $month = $_;

			push @sql, sprintf q{INSERT INTO known_queue SELECT '%s', flow_backfill('%s', '2024-%02d-01', '2024-%02d-%02d', max_active_runs => %d, priority => %d), %d, %d},
			  $dag, $dag, $month, $month, $nruns, $at_once, pick(-1, -1, -1, 0), $at_once, $nruns;
		}
	}
	define($node, join ";\n", @sql);
	return;
}

sub drop_load
{
	$node->safe_psql('postgres', 'SELECT flow_drop_dag(dag_id) FROM known_dag');
	return;
}

sub wait_for_end
{
	return wait_for($node, 'SELECT bool_and(success = nruns) FROM queue_now', 'all runs to succeed');
}

# ------------------------------------------------------------------------
# What runs stands at a gate: all that has room must come to run.

# Workers may have been given short tasks ahead of time: these are busy, but
# stand nowhere.
my $is_settled = q{
SELECT NOT EXISTS (SELECT FROM queue_now WHERE running < least(max_active_runs, nruns - success))
	AND NOT EXISTS (SELECT FROM standing WHERE gate <> ALL ('{%s}'))
	AND ((SELECT count(*) FROM standing) = } . $nworkers . q{
		OR ((SELECT count(*) FROM standing) = (SELECT count(*) FROM busy)
			AND NOT EXISTS (SELECT FROM ready WHERE NOT dag_is_full AND NOT pool_is_full)))};

my $what_is_there = q{
SELECT 'ready', r::text || ' waits for ' || coalesce(s.waits_for, 'nothing') FROM ready r JOIN flow.task_status s USING (run_id, task_id) UNION ALL
SELECT 'task', k::text FROM known_task k UNION ALL SELECT 'scheduler', s::text FROM flow.scheduler_status s UNION ALL SELECT 'busy', b::text FROM busy b UNION ALL SELECT 'standing', s::text FROM standing s
UNION ALL SELECT 'queue', q::text FROM queue_now q};

# Limits that what runs has passed.
my $passed = q{
SELECT 'tasks of ' || dag_id FROM busy JOIN known_dag USING (dag_id) GROUP BY dag_id, max_active_tasks HAVING count(*) > max_active_tasks
UNION ALL SELECT 'pool ' || p.pool FROM busy JOIN flow.pool p USING (pool) GROUP BY p.pool, p.slots HAVING sum(pool_slots) > p.slots
UNION ALL SELECT 'runs of ' || dag_id || ' ' || queue FROM queue_now WHERE running > max_active_runs
UNION ALL SELECT 'workers' FROM standing HAVING count(*) > } . $nworkers;

foreach my $round (1 .. $nrounds)
{
	my $seed = $first_seed + $round - 1;
	my @gates;
	my @wrong;
	my @closed = (1 .. $ngates);

	srand($seed);
	push @gates, close_gate($node, $_) foreach @closed;
	define_load("gate $seed", pick(3 .. 12), sub { return "SELECT stand_at_gate($_[0])" });
	while (1)
	{
		my $closed = join ',', @closed;

		if (!$node->poll_query_until('postgres', sprintf $is_settled, $closed))
		{
			push @wrong, "something waits without need while gates $closed are closed:",
			  value($node, $what_is_there);
			last;
		}
		push @wrong, value($node, $passed);
		# asked for at once: others wait for a worker, so backfills hold their part
		push @wrong, value($node, q{
SELECT 'backfills hold ' || count(*) || ' workers' FROM standing WHERE queue <> 0
HAVING count(*) > } . $nworkers * $backfill_share . q{ AND EXISTS (SELECT FROM ready WHERE queue = 0 AND NOT dag_is_full AND NOT pool_is_full)})
		  if @closed == $ngates;
		last unless @closed;
		(shift @gates)->open;
		shift @closed;
	}
	$_->open foreach @gates;
	wait_for_end();
	is(join("\n", grep { $_ ne '' } @wrong), '', "seed $seed: all that has room runs, and no more");
	drop_load();
}

# ------------------------------------------------------------------------
# One slot: the order in which it is taken is the order of importance.

foreach my $seed (map { $first_seed + $_ } 1 .. 3)
{
	my $gate = close_gate($node, 1);

	srand($seed);
	define($node, q{
TRUNCATE known_task, known_dag, known_queue, seen, turn;
SELECT flow_create_dag('first', NULL);
SELECT flow_add_sql('first', 'x', 'SELECT stand_at_gate(1)', pool => 'one')});
	my $first = trigger($node, 'first');
	wait_for($node, "SELECT count(*) = 1 FROM flow.running WHERE run_id = $first", 'the slot to be taken');

	my @sql;
	foreach my $dag (map { "order $seed $_" } 1 .. 12)
	{
		my $priority = pick(-2, -1, 0, 0, 1, 2);
		my $nscheduled = pick(1 .. 4);
		my $nbackfill = pick(0, 0, 0, 1, 3);

		push @sql, "SELECT flow_create_dag('$dag', '\@daily', start_date => '$days[9 - $nscheduled]', priority => $priority)";
		push @sql, "INSERT INTO known_dag VALUES ('$dag', 16, $priority)", "INSERT INTO known_queue VALUES ('$dag', 0, 16, $nscheduled)";
		push @sql, sprintf q{SELECT flow_add_sql('%s', '%s', 'INSERT INTO turn (run_id, task_id) VALUES (run.run_id, run.task_id)', pool => 'one', priority_weight => %d)},
		  $dag, $_, pick(1, 2, 3)
		  foreach 'a' .. pick('a', 'b', 'c');
		push @sql, sprintf q{INSERT INTO known_queue SELECT '%s', flow_backfill('%s', '2024-02-01', '2024-02-%02d', priority => %d), 16, %d},
		  $dag, $dag, $nbackfill, pick(-1, -1, 1), $nbackfill
		  if $nbackfill > 0;
	}
	define($node, join ";\n", @sql);
	wait_for($node, 'SELECT bool_and(running = nruns) FROM queue_now', 'all runs to wait for the slot');
	$gate->open;
	wait_for_end();

	is(value($node, q{
WITH taken AS (
	SELECT t.n, coalesce(b.priority, d.priority) AS priority, k.priority_weight, r.logical_date, coalesce(r.backfill_id, 0) AS queue
	FROM turn t JOIN flow.dag_run r USING (run_id) JOIN known_dag d USING (dag_id) JOIN flow.task k USING (dag_id, task_id)
		LEFT JOIN flow.backfill b USING (backfill_id))
SELECT count(*) FROM taken a JOIN taken b ON b.n > a.n
WHERE (a.priority, a.priority_weight) < (b.priority, b.priority_weight)
	OR ((a.priority, a.priority_weight, a.queue) = (b.priority, b.priority_weight, b.queue) AND a.logical_date > b.logical_date)}),
		'0', "seed $seed: " . value($node, 'SELECT count(*) FROM turn') . ' tasks take the only slot in the order of importance');
	$node->safe_psql('postgres', q{SELECT flow_drop_dag('first')});
	drop_load();
}

# ------------------------------------------------------------------------
# Full load: what overlaps, by the tasks' own account.

foreach my $round (1 .. 2)
{
	my $seed = $first_seed + $round;

	srand($seed);
	define_load("load $seed", 60, sub { return 'SELECT work(run.run_id, run.dag_id, run.task_id, ' . pick(0, 1, 2, 5, 20) . ')' });
	wait_for_end();
	is(value($node, 'SELECT count(*) FROM seen'), value($node, 'SELECT sum(q.nruns) FROM known_queue q JOIN known_task k USING (dag_id)'),
		'nothing starves: ' . value($node, 'SELECT count(*) FROM seen') . ' tasks run once each');

	# The most that there was at one time of each thing, and its limit; an end
	# that falls on a start counts first.
	my $most = q{
SELECT what, max(n) AS n, most FROM (
	SELECT what, most, sum(change) OVER (PARTITION BY what ORDER BY at, change) AS n FROM (
		SELECT what, most, slots AS change, started_at AS at FROM held UNION ALL SELECT what, most, -slots, ended_at FROM held) c) s
GROUP BY what, most HAVING max(n) > most};
	my $held = q{
WITH task AS (SELECT s.*, k.pool, k.pool_slots, d.max_active_tasks, q.queue, q.max_active_runs
	FROM seen s JOIN known_task k USING (dag_id, task_id) JOIN known_dag d USING (dag_id)
	JOIN run_of_queue r USING (run_id, dag_id) JOIN known_queue q USING (dag_id, queue)),
held (what, most, slots, started_at, ended_at) AS (
	SELECT 'workers', } . $nworkers . q{, 1, started_at, ended_at FROM task
	UNION ALL SELECT 'tasks of ' || dag_id, max_active_tasks, 1, started_at, ended_at FROM task
	UNION ALL SELECT 'pool ' || pool, p.slots, pool_slots, started_at, ended_at FROM task JOIN flow.pool p USING (pool)
	UNION ALL SELECT 'runs of ' || dag_id || ' ' || queue, max_active_runs, 1, min(started_at), max(ended_at) FROM task GROUP BY run_id, dag_id, queue, max_active_runs)};
	is(value($node, $held . $most), '', "seed $seed: no limit of workers, tasks, pools and runs is passed at any time");
	note(value($node, $held . ($most =~ s/HAVING .*/HAVING what !~ 'of'/r)));
	drop_load();
}

$node->stop;
done_testing();
