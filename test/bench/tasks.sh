# tasks.sh - part of run.sh: how many tasks that do nothing go through in a
# second, beside commits, queues and pg_cron.

tasks=5000 workers=8 rounds=5 runs=10 pgbench_seconds=4 cron_jobs=2000
cron_rounds=2 held_seconds=180
if [ -n "$quick" ]
then
	tasks=2000 rounds=2 runs=2 pgbench_seconds=1 cron_rounds=0 held_seconds=8
fi

# The tasks, and the table of a queue with as many jobs.
make_tables()
{
	must_sql >/dev/null <<-SQL
		CREATE TABLE bench.row (id int, note text);
		CREATE TABLE bench.queue (
		    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		    state text NOT NULL DEFAULT 'ready',
		    command text NOT NULL DEFAULT 'SELECT 1',
		    started_at timestamptz,
		    ended_at timestamptz
		);
		CREATE INDEX queue_ready ON bench.queue (id) WHERE state = 'ready';
	SQL
	independent_tasks tasks "$tasks"
}

# Runs of all tasks, one after the other; tasks a second, from the commit of
# flow_trigger to the end of the run.
flowpg_rate()
{
	local i

	for ((i = 1; i <= runs; i++))
	do
		cat <<-SQL
			SELECT flow_trigger('tasks') AS run_id \\gset
			SELECT flow_wait_run(:run_id) = 'success' AS is_done \\gset
			SELECT 1 / (:'is_done'::boolean)::int AS must_be_done \\gset
		SQL
	done >"$work/runs.sql"
	cat >>"$work/runs.sql" <<-SQL
		SELECT $tasks * $runs / sum(extract(epoch FROM ended_at - queued_at))
		FROM (SELECT * FROM flow.dag_run WHERE dag_id = 'tasks'
		    ORDER BY run_id DESC LIMIT $runs) AS r;
	SQL
	must_sql <"$work/runs.sql"
}

pgbench_rate()
{
	transactions_per_second -c 8 -j 2 -T "$pgbench_seconds" \
		<<<"INSERT INTO bench.row VALUES (1, 'row');"
}

# Sessions that commit in a loop: no client is waited for between commits.
loop_rate()
{
	local i seconds commits=2500 sessions=()

	[ -z "$quick" ] || commits=500
	seconds=$(date +%s.%N)
	for ((i = 1; i <= 8; i++))
	do
		in_background "loop$i" <<-SQL
			DO 'BEGIN FOR i IN 1 .. $commits LOOP
			    INSERT INTO bench.row VALUES (i, ''row''); COMMIT;
			END LOOP; END';
		SQL
		sessions+=($!)
	done
	wait "${sessions[@]}"
	awk "BEGIN { print 8 * $commits / ($(date +%s.%N) - $seconds) }"
}

# The usual queue in a table: a job is claimed, then done.
queue_rate()
{
	must_sql >/dev/null <<-SQL
		INSERT INTO bench.queue (state) SELECT 'ready' FROM generate_series(1, $tasks);
	SQL
	transactions_per_second -c 8 -j 2 -t $((tasks / 8)) <<-'SQL'
		UPDATE bench.queue SET state = 'running', started_at = clock_timestamp()
		WHERE id = (SELECT id FROM bench.queue WHERE state = 'ready'
		    ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
		RETURNING id \gset
		UPDATE bench.queue SET state = 'done', ended_at = clock_timestamp() WHERE id = :id;
	SQL
}

# All jobs at the next full minute, once; by pg_cron's own record.
cron_rate()
{
	must_sql >/dev/null <<-SQL
		CREATE EXTENSION IF NOT EXISTS pg_cron;
		TRUNCATE cron.job_run_details;
		SELECT count(cron.schedule('job' || i, '* * * * *', 'SELECT 1'))
		FROM generate_series(1, $cron_jobs) AS i;
	SQL
	until_true 70 "SELECT count(*) > 0 FROM cron.job_run_details WHERE status = 'succeeded'"
	until_true 120 "SELECT count(*) >= $cron_jobs FROM cron.job_run_details WHERE status = 'succeeded'"
	must_sql <<-SQL
		SELECT count(cron.unschedule(jobname)) AS gone FROM cron.job \\gset
		SELECT count(*) / extract(epoch FROM max(end_time) - min(start_time))
		FROM cron.job_run_details WHERE status = 'succeeded';
	SQL
}

measure_round()
{
	local peer peers=(flowpg pgbench loop queue)

	[ $(($1 % 2)) = 1 ] || peers=(queue loop pgbench flowpg)
	for peer in "${peers[@]}"
	do
		must_sql <<<"CHECKPOINT"
		sample rate "$peer" "$1" "$("${peer}_rate")"
	done
	[ "$1" -gt "$cron_rounds" ] || sample rate cron "$1" "$(cron_rate)"
}

# While another session holds its snapshot, rows that have been updated or
# deleted stay where they are.  At first without, then with the snapshot, which
# is held while work goes on; what counts is the end of that time.
measure_held()
{
	local round peer until

	for round in 1 2 3
	do
		for peer in flowpg queue
		do
			sample held "$peer without" "$round" "$("${peer}_rate")"
		done
	done
	in_background holder <<-SQL
		BEGIN ISOLATION LEVEL REPEATABLE READ;
		SELECT count(*) FROM bench.queue;
		SELECT pg_sleep(3600);
	SQL
	until=$((SECONDS + held_seconds))
	while [ "$SECONDS" -lt "$until" ]
	do
		flowpg_rate >/dev/null
		queue_rate >/dev/null
	done
	for round in 1 2 3
	do
		for peer in flowpg queue
		do
			sample held "$peer with" "$round" "$("${peer}_rate")"
		done
	done
	end_background holder
}

section()
{
	say "## tasks"
	say
	describe_environment
	say
	say "$tasks tasks of one run, independent of each other, each \`SELECT 1\`, $runs such runs one after the other; flowpg.max_workers = $workers; $rounds rounds" \
		"in which all take turns; median (least .. most). Ratios are of the same round."
	goals_of_samples
	goal_of_samples 'tasks a second, to pgbench -c 8, one-row INSERT' rate flowpg pgbench '>=' 1.5 'a second'
	goal_of_samples 'to pg_cron with background workers, jobs of one minute' rate flowpg cron '>=' 100 'a second'
	goal_of_samples 'to a queue with SKIP LOCKED, pgbench -c 8: claim, complete' rate flowpg queue '>=' 3 'a second'
	goal_of_samples 'to 8 sessions with a loop of INSERT and COMMIT (the limit; no goal)' rate flowpg loop '>=' 0 'a second'
	goal_of_samples "after a snapshot held open for $held_seconds s, to itself before" held 'flowpg with' 'flowpg without' '>=' 0.9 'a second'
	goal_of_samples 'the same of the queue (no goal)' held 'queue with' 'queue without' '>=' 0 'a second'
	samples rate 'a second'
}

# What is measured writes over files that an earlier round has made, of tables
# and of the WAL, as it does on a server that has been up for a while.
warm_up()
{
	local peer

	for peer in flowpg pgbench loop queue
	do
		"${peer}_rate" >/dev/null
	done
	must_sql <<<"CHECKPOINT"
}

with_autovacuum
make_tables
warm_up
for ((round = 1; round <= rounds; round++))
do
	say "Round $round of $rounds ..."
	measure_round "$round"
done
say "With a snapshot held open ..."
measure_held
section >"$work/tasks.md"
