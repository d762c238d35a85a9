# latency.sh - part of run.sh: how long it takes from one task to the next, from
# a trigger to its task, from one DAG to the next, beside single commits.

length=500 triggers=300 rounds=5 days=365 levels=5
if [ -n "$quick" ]
then
	length=100 triggers=30 rounds=2 days=60
fi

# Each first statement puts down its time.
make_dags()
{
	must_sql >/dev/null <<-SQL
		CREATE TABLE bench.row (id int, note text);
		SELECT flow_apply(jsonb_build_object('dag_id', 'chain',
		    'tasks', jsonb_agg(jsonb_build_object('task_id', 't' || i, 'operator', 'sql',
		        'command', format('INSERT INTO bench.step VALUES (run.run_id, %L, clock_timestamp())', i),
		        'upstream', CASE WHEN i = 1 THEN '{}'::text[] ELSE ARRAY['t' || i - 1] END) ORDER BY i)))
		FROM generate_series(1, $length) AS i;

		BEGIN;
		SELECT flow_create_dag('one');
		SELECT flow_add_sql('one', 'first',
		    'INSERT INTO bench.step VALUES (run.run_id, ''first'', clock_timestamp())');
		SELECT flow_create_dag('daily', '@daily', '2023-01-01', is_paused => true, catchup => false);
		SELECT flow_add_sql('daily', 'empty', 'SELECT 1');
		COMMIT;

		BEGIN;
		SELECT flow_create_dag('level' || i, CASE WHEN i = 1 THEN '@daily' END, '2023-01-01',
		    catchup => false, is_paused => i = 1)
		FROM generate_series(1, $levels) AS i;
		SELECT flow_add_sql('level' || i, 'load',
		    'INSERT INTO bench.step VALUES (run.run_id, ''level'', clock_timestamp())')
		FROM generate_series(1, $levels) AS i;
		SELECT flow_add_dependency('level' || i, 'level' || i + 1)
		FROM generate_series(1, $levels - 1) AS i;
		COMMIT;
	SQL
}

# Milliseconds of one commit after another, of one session inside the server:
# the median of all, which keeps out what the disk does now and then.
commit_ms()
{
	must_sql <<-SQL
		SET client_min_messages = warning;
		DROP TABLE IF EXISTS bench.commit_time;
		CREATE TABLE bench.commit_time (ms float);
		DO \$\$
		DECLARE
		    since timestamptz;
		BEGIN
		    FOR i IN 1 .. 500 LOOP
		        since := clock_timestamp();
		        INSERT INTO bench.row VALUES (i, 'row');
		        COMMIT;
		        INSERT INTO bench.commit_time
		        VALUES (extract(epoch FROM clock_timestamp() - since) * 1000);
		        COMMIT;
		    END LOOP;
		END
		\$\$;
		SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FROM bench.commit_time;
	SQL
}

# What a query of milliseconds yields at the middle and at the far end.
put_percentiles()
{
	must_sql <<-SQL
		INSERT INTO bench.sample
		SELECT '$1', at.name, $2, percentile_cont(at.part) WITHIN GROUP (ORDER BY ms)
		FROM ($3) AS s (ms), (VALUES ('p50', 0.5), ('p99', 0.99)) AS at (name, part)
		GROUP BY at.name, at.part;
	SQL
}

measure_chain()
{
	must_sql >"$work/run_id" <<-SQL
		SELECT flow_trigger('chain') AS run_id \\gset
		SELECT 1 / (flow_wait_run(:run_id) = 'success')::int AS is_done \\gset
		SELECT :run_id;
	SQL
	put_percentiles chain "$1" "SELECT extract(epoch FROM at - lag(at) OVER (ORDER BY name::int)) * 1000
		FROM bench.step WHERE run_id = $(cat "$work/run_id")"
}

# A trigger at a time, each after the one before has ended.
measure_trigger()
{
	local i

	for ((i = 0; i < triggers; i++))
	do
		say "SELECT flow_trigger('one') AS run_id \\gset"
		say "SELECT 1 / (flow_wait_run(:run_id) = 'success')::int \\g /dev/null"
	done >"$work/triggers"
	must_sql >/dev/null <<<"TRUNCATE bench.step"
	must_sql <"$work/triggers"
	put_percentiles trigger "$1" "SELECT extract(epoch FROM s.at - pg_xact_commit_timestamp(r.queue_xid)) * 1000
		FROM bench.step AS s JOIN bench.queued AS r USING (run_id)"
}

# flow_trigger's transaction is no longer to be seen in the run's row, once
# that has been updated: a trigger of the table notes it.
note_queued()
{
	must_sql <<-SQL
		CREATE TABLE bench.queued (run_id bigint, queue_xid xid);
		CREATE FUNCTION bench.note_queued() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \$\$
		BEGIN
		    INSERT INTO bench.queued VALUES (NEW.run_id, pg_current_xact_id()::xid);
		    RETURN NULL;
		END
		\$\$;
		CREATE TRIGGER note_queued AFTER INSERT ON flow.dag_run FOR EACH ROW
		    WHEN (NEW.dag_id = 'one') EXECUTE FUNCTION bench.note_queued();
	SQL
}

# ended_backfill ARGUMENTS: of flow_backfill; its id, when it has succeeded.
ended_backfill()
{
	must_sql 2>/dev/null <<-SQL
		SELECT flow_backfill($1) AS backfill_id \\gset
		CALL flow_wait_backfill(:backfill_id);
		SELECT 1 / (state = 'success')::int AS is_done FROM flow.backfill
		WHERE backfill_id = :backfill_id \\gset
		SELECT :backfill_id;
	SQL
}

measure_backfill()
{
	local backfill

	backfill=$(ended_backfill "'daily', '2023-01-01', date '2023-01-01' + $days - 1, reprocess => 'completed'")
	must_sql <<-SQL
		INSERT INTO bench.sample
		SELECT 'backfill', 'flowpg', $1, extract(epoch FROM ended_at - created_at) * 1000
		FROM flow.backfill WHERE backfill_id = $backfill;
		INSERT INTO bench.sample
		SELECT 'backfill', 'three commits a run', round, 3 * $days * value
		FROM bench.sample WHERE (measure, peer, round) = ('commit', 'one', $1);
	SQL
}

# A day of the first level sets off the second, and so on: from the first
# level's statement to the last one's.
measure_levels()
{
	local day="date '2023-01-01' + $1 - 1"

	must_sql >/dev/null <<<"TRUNCATE bench.step"
	ended_backfill "'level1', $day, $day, cascade => false" >/dev/null
	until_true 60 "SELECT count(*) = $levels FROM bench.step"
	must_sql <<-SQL
		INSERT INTO bench.sample
		SELECT 'levels', 'flowpg', $1, extract(epoch FROM max(at) - min(at)) * 1000 / ($levels - 1)
		FROM bench.step;
	SQL
}

measure_round()
{
	must_sql <<<"CHECKPOINT"
	sample commit one "$1" "$(commit_ms)"
	must_sql <<-SQL
		INSERT INTO bench.sample SELECT 'chain', 'a commit and 0.5 ms', round, value + 0.5
		FROM bench.sample WHERE (measure, peer, round) = ('commit', 'one', $1);
		INSERT INTO bench.sample SELECT 'levels', 'one commit', round, value
		FROM bench.sample WHERE (measure, peer, round) = ('commit', 'one', $1);
	SQL
	measure_chain "$1"
	measure_trigger "$1"
	measure_backfill "$1"
	measure_levels "$1"
}

section()
{
	say "## latency"
	say
	describe_environment
	say
	say "A chain of $length tasks; $triggers triggers, one after the other; a backfill of $days days with an empty task each;" \
		"$levels levels of DAGs linked by dependency_manager. $rounds rounds; median (least .. most). A commit: of one row," \
		"in a loop inside the server, $(must_sql <<<"SELECT bench.figure(array_agg(value), 3) FROM bench.sample WHERE measure = 'commit'") ms."
	goals_of_samples
	goal_of_samples 'chain: first statement to first statement, median, to one commit and 0.5 ms' chain p50 'a commit and 0.5 ms' '<=' 1 ms
	goal_of_samples 'chain: 99th percentile, ms' chain p99 '' '<=' 3 ms
	goal_of_samples "the commit of flow_trigger to the first statement, median, ms" trigger p50 '' '<=' 1 ms
	goal_of_samples "the commit of flow_trigger to the first statement, 99th percentile, ms" trigger p99 '' '<=' 5 ms
	goal_of_samples "backfill of $days days, to three commits a run" backfill flowpg 'three commits a run' '<=' 2 ms
	goal_of_samples 'from level to level, first statements, to one commit' levels flowpg 'one commit' '<=' 10 ms
}

make_dags
note_queued
for ((round = 1; round <= rounds; round++))
do
	say "Round $round of $rounds ..."
	measure_round "$round"
done
section >"$work/latency.md"
must_sql <<<"DROP TRIGGER note_queued ON flow.dag_run"
