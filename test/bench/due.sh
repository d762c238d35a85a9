# due.sh - part of run.sh: how soon what is due starts, beside pg_cron; and
# what a due run costs where much else is there that is not due.

dags=200 minutes=3 runs=300 rounds=5
few_dags=100 many_dags=10000 finished=1000000 queued_days=3650
if [ -n "$quick" ]
then
	minutes=0 runs=30 rounds=1 many_dags=500 finished=20000 queued_days=100
fi

# ---------------------------------------------------------------------------
# All at one second
# ---------------------------------------------------------------------------

# DAGs and jobs alike put down when they ran.  They take turns by the minute, so
# that none is in the other's way.
make_jobs()
{
	must_sql >/dev/null <<-SQL
		CREATE EXTENSION IF NOT EXISTS pg_cron;
		CREATE TABLE bench.due_step (peer text, at timestamptz);
		BEGIN;
		SELECT flow_create_dag('due' || i, '*/2 * * * *', catchup => false)
		FROM generate_series(1, $dags) AS i;
		SELECT flow_add_sql('due' || i, 'step', 'INSERT INTO bench.due_step VALUES (''flowpg'', clock_timestamp())')
		FROM generate_series(1, $dags) AS i;
		COMMIT;
		SELECT count(cron.schedule('job' || i, '1-59/2 * * * *',
		    'INSERT INTO bench.due_step VALUES (''cron'', clock_timestamp())'))
		FROM generate_series(1, $dags) AS i;
	SQL
}

# Seconds from the full minute until all of a minute have started.
measure_minutes()
{
	# what is defined within a minute is not due before the one after the next
	until_true $((minutes * 120 + 240)) "SELECT count(*) >= $minutes FROM (
		SELECT date_trunc('minute', at) FROM bench.due_step WHERE peer = 'flowpg'
		GROUP BY 1 HAVING count(*) = $dags) AS full_minute"
	until_true 300 "SELECT count(*) >= $minutes FROM (
		SELECT date_trunc('minute', at) FROM bench.due_step WHERE peer = 'cron'
		GROUP BY 1 HAVING count(*) = $dags) AS full_minute"
	must_sql >/dev/null <<-SQL
		SELECT count(cron.unschedule(jobname)) FROM cron.job;
		SELECT count(flow_drop_dag(dag_id)) FROM flow.dag WHERE dag_id LIKE 'due%';
		INSERT INTO bench.sample
		SELECT 'due', peer, row_number() OVER (PARTITION BY peer ORDER BY minute), seconds
		FROM (SELECT peer, date_trunc('minute', at) AS minute,
		        extract(epoch FROM max(at) - date_trunc('minute', max(at))) AS seconds
		    FROM bench.due_step GROUP BY 1, 2 HAVING count(*) = $dags) AS s;
	SQL
}

# ---------------------------------------------------------------------------
# Much else
# ---------------------------------------------------------------------------

# set_now TIME: the clock stands there; nothing: real time.
set_now()
{
	must_sql >/dev/null <<-SQL
		ALTER SYSTEM SET flowpg.simulated_now = '$1';
		SELECT pg_reload_conf();
	SQL
}

# A DAG whose runs are measured, and a clock that goes from due to due.
make_probe()
{
	probe_day=0
	set_now '2024-01-01 00:00:00+00'
	must_sql >/dev/null <<-SQL
		BEGIN;
		SELECT flow_create_dag('probe', '@daily', '2024-01-01');
		SELECT flow_add_sql('probe', 'step', 'SELECT 1');
		COMMIT;
	SQL
}

# measure_probe MEASURE PEER ROUND: milliseconds of processor time of scheduler
# and workers for a due run, over so many runs one after the other.  Before it
# the same once more, for the warmth.
measure_probe()
{
	advance_probe 10
	must_sql >"$work/ms" <<-SQL
		SELECT sum((bench.process(pid)).cpu_seconds) AS before FROM pg_stat_activity
		WHERE backend_type LIKE 'flowpg %' \\gset
		$(advances "$runs")
		SELECT (sum((bench.process(pid)).cpu_seconds) - :before) * 1000 / $runs FROM pg_stat_activity
		WHERE backend_type LIKE 'flowpg %';
	SQL
	probe_day=$((probe_day + runs))
	sample "$1" "$2" "$3" "$(tail -n 1 "$work/ms")"
}

advances()
{
	local i

	for ((i = 1; i <= $1; i++))
	do
		say "SELECT flow_advance(timestamptz '2024-01-01 00:00+00' + $((probe_day + i)) * interval '1 day') \\g /dev/null"
	done
}

advance_probe()
{
	advances "$1" | must_sql
	probe_day=$((probe_day + $1))
}

# DAGs that are never due in this time.
make_idle_dags()
{
	must_sql >/dev/null <<-SQL
		BEGIN;
		SELECT count(flow_create_dag('idle' || i, '@daily', '2200-01-01')),
		    count(flow_add_sql('idle' || i, 'task', 'SELECT 1'))
		FROM generate_series($1, $2) AS i;
		COMMIT;
		ANALYZE;
	SQL
}

# History, as of a DAG that has run for long.
make_finished()
{
	must_sql >/dev/null <<-SQL
		SELECT max(version) AS version FROM flow.dag_run WHERE dag_id = 'probe' \\gset
		INSERT INTO flow.dag_run (dag_id, version, run_type, logical_date, data_interval_start,
		    data_interval_end, state, queued_at, started_at, ended_at)
		SELECT 'probe', :version, 'scheduled', at, at, at + interval '1 minute', 'success', now(), now(), now()
		FROM generate_series(0, $finished - 1) AS i,
		    LATERAL (SELECT timestamptz '2020-01-01' + i * interval '1 minute' AS at) AS t;
		INSERT INTO flow.task_run (run_id, task_id, dag_id, state, try_number, started_at, ended_at)
		SELECT run_id, 'step', dag_id, 'success', 1, started_at, ended_at
		FROM flow.dag_run WHERE dag_id = 'probe' AND logical_date < '2024-01-01';
		VACUUM ANALYZE flow.dag_run, flow.task_run;
		CHECKPOINT;
	SQL
}

# A backfill of ten years of hours, whose runs may start at noon only, which
# the clock never shows.
make_queued()
{
	must_sql >/dev/null <<-SQL
		BEGIN;
		SELECT flow_create_dag('long', '@hourly', '2010-01-01', is_paused => true, catchup => false);
		SELECT flow_add_sql('long', 'step', 'SELECT 1');
		COMMIT;
		SELECT flow_backfill('long', '2010-01-01', date '2010-01-01' + $queued_days - 1,
		    run_window => '12:00-12:01');
	SQL
	advance_probe 1
	must_sql >/dev/null <<-SQL
		SELECT 1 / (count(*) = $queued_days * 24)::int FROM flow.dag_run
		WHERE dag_id = 'long' AND state = 'queued';
		ANALYZE flow.dag_run;
		CHECKPOINT;
	SQL
}

measure_much_else()
{
	local round

	make_probe
	make_idle_dags 1 "$few_dags"
	for ((round = 1; round <= rounds; round++))
	do
		measure_probe dags few "$round"
	done
	make_idle_dags $((few_dags + 1)) "$many_dags"
	for ((round = 1; round <= rounds; round++))
	do
		measure_probe dags many "$round"
		measure_probe finished few "$round"
	done
	make_finished
	for ((round = 1; round <= rounds; round++))
	do
		measure_probe finished many "$round"
		measure_probe queued few "$round"
	done
	make_queued
	for ((round = 1; round <= rounds; round++))
	do
		measure_probe queued many "$round"
	done
	must_sql >/dev/null <<-SQL
		SELECT flow_cancel_backfill(max(backfill_id)) FROM flow.backfill;
	SQL
	set_now ''
}

section()
{
	say "## due"
	say
	describe_environment
	say
	say "$dags DAGs due at one full minute, with one task, and as many jobs of pg_cron (use_background_workers, max_running_jobs = 8) at the next;" \
		"$minutes minutes each. A due run of a daily DAG: processor time of scheduler and workers over $runs runs, one after the other, $rounds rounds."
	goals_of_samples
	[ "$minutes" = 0 ] ||
		goal_of_samples "$dags due at the same second: until all have started, to pg_cron" due flowpg cron '<=' 0.1 s
	goal_of_samples "a due run with $many_dags DAGs, to $few_dags" dags many few '<=' 1.2 'ms of processor time'
	goal_of_samples "with $finished finished runs, to none" finished many few '<=' 1.2 'ms of processor time'
	goal_of_samples "with $((queued_days * 24)) queued runs of a backfill, to none" queued many few '<=' 1.2 'ms of processor time'
}

with_autovacuum
if [ "$minutes" != 0 ]
then
	make_jobs
	measure_minutes
fi
measure_much_else
section >"$work/due.md"
