# life.sh - part of run.sh: what flowpg costs when nothing is due, beside
# pg_cron; whether its processes grow; how soon a scheduler is ready.

idle_dags=1000 idle_seconds=60 settle_seconds=20 rounds=3
few_tasks=10000 many_tasks=1000000 unfinished_runs=100
if [ -n "$quick" ]
then
	idle_seconds=5 settle_seconds=0 rounds=1 few_tasks=2000 many_tasks=4000 unfinished_runs=5
fi
tasks_a_run=1000

# ---------------------------------------------------------------------------
# Idle
# ---------------------------------------------------------------------------

# Daily, but not due in the time of this.
make_idle()
{
	local hour

	hour=$(must_sql <<<"SELECT extract(hour FROM now() + interval '12 hours')")
	must_sql >/dev/null <<-SQL
		CREATE EXTENSION IF NOT EXISTS pg_cron;
		BEGIN;
		SELECT count(flow_create_dag('idle' || i, '30 $hour * * *', catchup => false)),
		    count(flow_add_sql('idle' || i, 'task', 'SELECT 1'))
		FROM generate_series(1, $idle_dags) AS i;
		COMMIT;
		SELECT count(cron.schedule('idle' || i, '30 $hour * * *', 'SELECT 1'))
		FROM generate_series(1, $idle_dags) AS i;
		CHECKPOINT;
	SQL
}

# The processes of both, in one query: flowpg's are its launcher and scheduler.
# Transactions and WAL are those of the whole server, in which nothing else goes
# on but the two queries of this.
idle_usage()
{
	must_sql <<-SQL
		SELECT CASE WHEN backend_type LIKE 'flowpg %' THEN 'flowpg' ELSE 'cron' END AS peer,
		    sum((bench.process(pid)).cpu_seconds) AS cpu, sum((bench.process(pid)).wakeups) AS wakeups
		FROM pg_stat_activity
		WHERE backend_type LIKE 'flowpg %' OR backend_type LIKE 'pg_cron%'
		GROUP BY 1 ORDER BY 1
	SQL
}

# Of transactions that write; the question is none.
next_xid="SELECT pg_snapshot_xmax(pg_current_snapshot())"

measure_idle()
{
	local before after peer xid lsn wal cpu_before cpu_after wakeups_before wakeups_after

	# workers of an earlier part leave
	must_sql >/dev/null <<-SQL
		ALTER SYSTEM SET flowpg.worker_idle_timeout = '10ms';
		SELECT pg_reload_conf();
	SQL
	until_true 120 "SELECT count(*) = 0 FROM flow.worker_status"
	must_sql >/dev/null <<-SQL
		ALTER SYSTEM RESET flowpg.worker_idle_timeout;
		SELECT pg_reload_conf();
	SQL
	for ((round = 1; round <= rounds; round++))
	do
		# the server itself tells standbys of what was written before, each 15 s
		must_sql <<<"CHECKPOINT"
		sleep "$settle_seconds"
		before=$(idle_usage)
		xid=$(must_sql <<<"$next_xid")
		lsn=$(must_sql <<<"SELECT pg_current_wal_insert_lsn()")
		sleep "$idle_seconds"
		wal=$(must_sql <<<"SELECT pg_current_wal_insert_lsn() - '$lsn'")
		xid=$(($(must_sql <<<"$next_xid") - xid))
		after=$(idle_usage)
		sample wal both "$round" "$wal"
		sample transactions both "$round" "$xid"
		paste -d '|' <(printf '%s\n' "$before") <(printf '%s\n' "$after") >"$work/idle"
		while IFS='|' read -r peer cpu_before wakeups_before _ cpu_after wakeups_after
		do
			sample wakeups "$peer" "$round" "$((wakeups_after - wakeups_before))"
			sample cpu "$peer" "$round" "100 * ($cpu_after - $cpu_before) / $idle_seconds.0"
		done <"$work/idle"
	done
	must_sql >/dev/null <<-SQL
		SELECT count(cron.unschedule(jobname)) FROM cron.job;
		SELECT count(flow_drop_dag(dag_id)) FROM flow.dag WHERE dag_id LIKE 'idle%';
	SQL
}

# ---------------------------------------------------------------------------
# A long life
# ---------------------------------------------------------------------------

# run_tasks COUNT
run_tasks()
{
	local i

	for ((i = 0; i < $1 / tasks_a_run; i++))
	do
		say "SELECT flow_trigger('load') AS run_id \\gset"
		say "SELECT 1 / (flow_wait_run(:run_id) = 'success')::int \\g /dev/null"
	done >"$work/loads"
	must_sql <"$work/loads"
}

# put_processes PEER: of the scheduler, and of the worker that has most.
put_processes()
{
	must_sql <<-SQL
		CREATE TEMPORARY TABLE process AS
		SELECT backend_type, pid, backend_xmin,
		    (SELECT count(*) FROM pg_ls_dir(format('/proc/%s/fd', pid))) AS files
		FROM pg_stat_activity WHERE backend_type IN ('flowpg scheduler', 'flowpg worker');
		INSERT INTO bench.sample
		SELECT 'memory of ' || backend_type, '$1', 1, max((bench.process(pid)).private_kb)
		FROM process GROUP BY backend_type;
		INSERT INTO bench.sample
		SELECT 'open files', '$1', 1, max(files) FROM process;
		INSERT INTO bench.sample
		SELECT 'snapshots', '$1', 1, count(backend_xmin) FROM process;
	SQL
}

# put_tables PEER: bytes of flowpg's tables with their indexes, and how many
# there are to each byte of rows where the rows are more than a megabyte.
put_tables()
{
	must_sql <<-SQL
		SET client_min_messages = warning;
		CREATE EXTENSION IF NOT EXISTS pgstattuple;
		CREATE TEMPORARY TABLE size AS
		SELECT pg_total_relation_size(oid) AS total, s.table_len, s.tuple_len
		FROM pg_class, pgstattuple(oid) AS s
		WHERE relnamespace = 'flow'::regnamespace AND relkind = 'r';
		INSERT INTO bench.sample SELECT 'tables', '$1', 1, sum(total) FROM size;
		INSERT INTO bench.sample
		SELECT 'bloat', '$1', 1, coalesce(max(table_len::float / tuple_len), 1)
		FROM size WHERE tuple_len > 1048576;
	SQL
}

# All runs there are go, by a scheduler that is new.
forget_runs()
{
	must_sql >/dev/null <<-SQL
		UPDATE flow.dag_run SET ended_at = now() - interval '1 year';
		SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
		WHERE backend_type = 'flowpg scheduler' AND datname = 'bench';
	SQL
	until_true 600 "SELECT count(*) = 0 FROM flow.dag_run"
	must_sql >/dev/null <<<"VACUUM"
}

measure_long_life()
{
	with_autovacuum
	run_tasks "$few_tasks"
	put_processes few
	run_tasks $((many_tasks - few_tasks))
	put_processes many
	put_tables many
	forget_runs
	run_tasks "$many_tasks"
	put_tables again
	without_autovacuum
}

# ---------------------------------------------------------------------------
# Start
# ---------------------------------------------------------------------------

# Runs that have begun, of which most tasks have not: a worker stands in the
# way of all the others.
make_unfinished()
{
	in_background gate <<-SQL
		SELECT pg_advisory_lock(1);
		SELECT pg_sleep(3600);
	SQL
	until_true 10 "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"
	must_sql >/dev/null <<-SQL
		SELECT flow_apply(jsonb_build_object('dag_id', 'unfinished', 'max_active_tasks', 2,
		    'max_active_runs', $unfinished_runs, 'tasks', jsonb_agg(jsonb_build_object('task_id', 't' || i,
		        'operator', 'sql', 'command', 'SELECT pg_advisory_xact_lock_shared(1)'))))
		FROM generate_series(1, $tasks_a_run) AS i;
		BEGIN;
		SELECT flow_create_dag('probe');
		SELECT flow_add_sql('probe', 'step', 'SELECT 1');
		COMMIT;
		SELECT count(flow_trigger('unfinished')) FROM generate_series(1, $unfinished_runs);
	SQL
	until_true 120 "SELECT active_runs = $unfinished_runs AND running_tasks = 2 FROM flow.scheduler_status"
	# as many begun and to be tried again, as after a night of failures
	must_sql >/dev/null <<-SQL
		INSERT INTO flow.task_run (run_id, dag_id, task_id, try_number, state, started_at, ended_at, retry_at, failures)
		SELECT run_id, dag_id, 't' || i, 1, 'up_for_retry', now(), now(), now() + interval '1 day', 1
		FROM flow.dag_run, generate_series(1, $tasks_a_run) AS i
		WHERE dag_id = 'unfinished'
		ON CONFLICT DO NOTHING;
		ANALYZE flow.task_run;
		CHECKPOINT;
	SQL
}

# From the end of one scheduler to the first statement of a run that was asked
# for when it had gone.
measure_start()
{
	local round

	for ((round = 1; round <= rounds; round++))
	do
		must_sql >/dev/null <<-SQL
			TRUNCATE bench.step;
			SELECT clock_timestamp() AS since \\gset
			SELECT pg_terminate_backend(pid, 10000), pid AS gone FROM pg_stat_activity
			WHERE backend_type = 'flowpg scheduler' AND datname = 'bench' \\gset
			SELECT flow_trigger('probe') AS run_id \\gset
			SELECT 1 / (flow_wait_run(:run_id) = 'success')::int AS is_done \\gset
			SELECT 1 / (pid <> :gone AND active_runs = $unfinished_runs)::int FROM flow.scheduler_status;
			INSERT INTO bench.sample
			SELECT 'start', 'flowpg', $round, extract(epoch FROM started_at - :'since')
			FROM flow.task_run WHERE run_id = :run_id;
		SQL
	done
	end_background gate
}

section()
{
	say "## life"
	say
	describe_environment
	say
	say "Idle: $idle_dags daily DAGs, and as many jobs of pg_cron, in one server, $idle_seconds s, $rounds rounds; transactions" \
		"and WAL are the whole server's. Long life: $many_tasks task runs in runs of $tasks_a_run, with autovacuum; private memory (RssAnon) and open files" \
		"of the scheduler and of the worker that has most; then all runs are as old as to be forgotten, and as many are made again. Start: from pg_terminate_backend of the scheduler," \
		"with $unfinished_runs runs of $tasks_a_run unfinished tasks, to the start of a task of a run that was asked for meanwhile."
	goals_of_samples
	goal_of_samples 'idle: transactions' transactions both '' '<=' 0 transactions
	goal_of_samples 'idle: bytes of WAL' wal both '' '<=' 0 bytes
	goal_of_samples 'idle: wake-ups, to those of pg_cron' wakeups flowpg cron '<=' 1 wake-ups
	goal_of_samples 'idle: per cent of a processor' cpu flowpg '' '<=' 0.1 '%'
	goal_of_samples 'the same of pg_cron (no goal)' cpu cron '' '<=' 100 '%'
	goal_of_samples "memory of the scheduler after $many_tasks task runs, to $few_tasks" 'memory of flowpg scheduler' many few '<=' 1.05 kB
	goal_of_samples "memory of a worker after $many_tasks task runs, to $few_tasks" 'memory of flowpg worker' many few '<=' 1.05 kB
	goal_of_samples "files that a process has open after $many_tasks task runs, to $few_tasks" 'open files' many few '<=' 1.1 files
	goal_of_samples 'snapshots that they hold then' snapshots many '' '<=' 0 snapshots
	goal_of_samples 'bytes of a table to bytes of its rows, the worst one' bloat many '' '<=' 2 ''
	goal_of_samples 'the same when all runs have been forgotten, and made again' bloat again '' '<=' 2 ''
	goal_of_samples 'bytes of tables and indexes then, to those before' tables again many '<=' 1.1 bytes
	goal_of_samples 'scheduler gone to first task, s' start flowpg '' '<=' 2 s
}

make_idle
measure_idle
independent_tasks load "$tasks_a_run"
measure_long_life
make_unfinished
measure_start
section >"$work/life.md"
