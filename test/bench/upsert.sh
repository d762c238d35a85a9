# upsert.sh - part of run.sh: a table copied into another by flow_add_upsert,
# beside the statements and loops that are written by hand for it.

rows=2000000 few_rows=200000 rounds=3
page_size=10000
if [ -n "$quick" ]
then
	rows=200000 few_rows=100000 rounds=2
fi

# ---------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------

# bench.source, the same with one column changed in every row, the first
# few_rows of it, and an empty target; all of the same six columns.
make_tables()
{
	must_sql <<-SQL
		CREATE TABLE bench.source (
		    id int PRIMARY KEY,
		    customer text NOT NULL,
		    amount numeric(12,2) NOT NULL,
		    quantity int NOT NULL,
		    ordered_at timestamptz NOT NULL,
		    note text
		);
		CREATE TABLE bench.changed_source (LIKE bench.source INCLUDING ALL);
		CREATE TABLE bench.few_source (LIKE bench.source INCLUDING ALL);
		CREATE TABLE bench.target (LIKE bench.source INCLUDING ALL);
		INSERT INTO bench.source
		SELECT i, 'customer ' || i % 9973, (i % 100000) / 100.0, i % 17,
		    '2024-01-01'::timestamptz + i * interval '13 seconds',
		    CASE WHEN i % 3 > 0 THEN 'note on order ' || i END
		FROM generate_series(1, $rows) AS i;
		INSERT INTO bench.changed_source
		SELECT id, customer, amount + 1, quantity, ordered_at, note
		FROM bench.source;
		INSERT INTO bench.few_source
		SELECT * FROM bench.source WHERE id <= $few_rows;
		VACUUM ANALYZE bench.source, bench.changed_source, bench.few_source;
	SQL
}

# define_upsert SOURCE PARALLEL_PAGES
define_upsert()
{
	sql -v VERBOSITY=sqlstate <<-SQL
		BEGIN;
		SELECT flow_create_dag('bench.$1 $2');
		SELECT flow_add_upsert('bench.$1 $2', 'copy', source => 'bench.$1',
		    target => 'bench.target', page_size => $page_size,
		    parallel_pages => $2);
		COMMIT;
	SQL
}

# parallel: whether this version takes several pages at once.
define_upserts()
{
	local source problem

	for source in source changed_source few_source
	do
		define_upsert "$source" 1 >/dev/null ||
			{ complain "could not define the upsert"; exit 1; }
	done

	parallel=1
	for source in source changed_source
	do
		problem=$(define_upsert "$source" 2 2>&1 >/dev/null) && continue
		parallel=
		[[ $problem = *0A000* ]] && continue
		complain "could not define the upsert: $problem"
		exit 1
	done
}

# Each measurement begins with the same target: empty, or a loaded one that
# nobody has written since, its pages clean and known to be visible to all.
prepare()
{
	must_sql <<-SQL
		TRUNCATE bench.target;
		$([ "$1" = empty ] ||
			echo "INSERT INTO bench.target SELECT * FROM bench.source;")
		VACUUM ANALYZE bench.target;
		VACUUM bench.source, bench.changed_source, bench.few_source,
		    flow.task_run;
		CHECKPOINT;
	SQL
}

# ---------------------------------------------------------------------------
# Peers: each prints the SQL that copies the source $1
# ---------------------------------------------------------------------------

columns="customer = excluded.customer, amount = excluded.amount,
	quantity = excluded.quantity, ordered_at = excluded.ordered_at,
	note = excluded.note"

flowpg()
{
	flowpg_run "$1" 1
}

flowpg_parallel()
{
	flowpg_run "$1" 2
}

flowpg_run()
{
	cat <<-SQL
		SELECT flow_trigger('bench.$1 $2') AS run_id \\gset
		SELECT flow_wait_run(:run_id) = 'success' AS is_done \\gset
		\\if :is_done
		\\else
		    SELECT * FROM flow.task_attempt WHERE run_id = :run_id;
		    DO 'BEGIN RAISE ''the run did not succeed''; END';
		\\endif
	SQL
}

bare()
{
	cat <<-SQL
		INSERT INTO bench.target SELECT * FROM bench.$1
		ON CONFLICT (id) DO UPDATE SET $columns;
	SQL
}

bare_where()
{
	cat <<-SQL
		INSERT INTO bench.target AS t SELECT * FROM bench.$1
		ON CONFLICT (id) DO UPDATE SET $columns
		WHERE t IS DISTINCT FROM excluded;
	SQL
}

merge()
{
	cat <<-SQL
		MERGE INTO bench.target AS t USING bench.$1 AS s ON t.id = s.id
		WHEN MATCHED THEN UPDATE SET customer = s.customer,
		    amount = s.amount, quantity = s.quantity,
		    ordered_at = s.ordered_at, note = s.note
		WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.customer, s.amount,
		    s.quantity, s.ordered_at, s.note);
	SQL
}

# A page is what has the row numbers from n + 1 to n + page_size.
row_number()
{
	page_loop "$1" "SELECT id, customer, amount, quantity, ordered_at, note
		FROM (SELECT s.*, row_number() OVER (ORDER BY id) AS number
		    FROM bench.$1 AS s) AS numbered
		WHERE number > n AND number <= n + $page_size"
}

offset()
{
	page_loop "$1" "SELECT * FROM bench.$1
		ORDER BY id OFFSET n LIMIT $page_size"
}

page_loop()
{
	cat <<-SQL
		DO \$\$
		DECLARE
		    n bigint := 0;
		    nrows bigint := (SELECT count(*) FROM bench.$1);
		BEGIN
		    WHILE n < nrows LOOP
		        INSERT INTO bench.target $2
		        ON CONFLICT (id) DO UPDATE SET $columns;
		        COMMIT;
		        n := n + $page_size;
		    END LOOP;
		END
		\$\$;
	SQL
}

# ---------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------

# measure ROUND SCENARIO PEER STATE SOURCE: STATE is what the target is like.
measure()
{
	local round=$1 scenario=$2 peer=$3 state=$4 source=$5 is_flowpg=false

	[[ $peer != flowpg* ]] || is_flowpg=true
	prepare "$state"
	must_sql >"$work/measure.out" <<-SQL
		\\set run_id 0
		SELECT bench.begin(:clock_ticks);
		SELECT pg_current_wal_insert_lsn() AS lsn \\gset
		SELECT clock_timestamp() AS started \\gset
		$("$peer" "$source")
		SELECT clock_timestamp() AS ended \\gset
		SELECT pg_current_wal_insert_lsn() - :'lsn'::pg_lsn AS wal \\gset
		INSERT INTO bench.measurement
		SELECT '$scenario', '$peer', $round,
		    extract(epoch FROM :'ended'::timestamptz - :'started'),
		    (SELECT extract(epoch FROM ended_at - started_at)
		     FROM flow.task_run WHERE $is_flowpg AND run_id = :run_id),
		    bench.cpu_since_begin(:clock_ticks), :wal,
		    -- pages of two workers do not come one after the other
		    CASE WHEN '$state $source' <> 'loaded source' AND '$peer' <> 'flowpg_parallel'
		        THEN bench.page_growth('bench.target') END;
		-- all is there, whoever copied it
		SELECT 1 / ((SELECT sum(hashtext(s::text)) FROM bench.$source AS s)
		    = (SELECT sum(hashtext(t::text)) FROM bench.target AS t))::int;
	SQL
}

# measure_all ROUND SCENARIO STATE SOURCE PEER...: every other round backwards,
# so that what is before a measurement is not always the same.
measure_all()
{
	local round=$1 scenario=$2 state=$3 source=$4 peer peers=()

	shift 4
	for peer in "$@"
	do
		[ "$peer" != flowpg_parallel ] || [ -n "$parallel" ] || continue
		if [ $((round % 2)) = 1 ]
		then
			peers+=("$peer")
		else
			peers=("$peer" ${peers[@]+"${peers[@]}"})
		fi
	done
	for peer in "${peers[@]}"
	do
		measure "$round" "$scenario" "$peer" "$state" "$source"
	done
}

measure_round()
{
	measure_all "$1" empty empty source \
		flowpg bare merge flowpg_parallel
	measure_all "$1" changed loaded changed_source \
		flowpg bare merge flowpg_parallel
	measure_all "$1" unchanged loaded source \
		flowpg bare_where bare
	measure_all "$1" few empty few_source \
		flowpg bare row_number offset
}

# ---------------------------------------------------------------------------
# The section of RESULTS.md
# ---------------------------------------------------------------------------

labels="(VALUES
	('flowpg', 1, 'flow_add_upsert'),
	('flowpg_parallel', 2, 'flow_add_upsert, parallel_pages = 2'),
	('bare', 3, 'INSERT ... SELECT ... ON CONFLICT DO UPDATE'),
	('bare_where', 4, 'the same, WHERE t IS DISTINCT FROM excluded'),
	('merge', 5, 'MERGE'),
	('row_number', 6, 'plpgsql loop, pages by ROW_NUMBER()'),
	('offset', 7, 'plpgsql loop, pages by OFFSET and LIMIT')
) AS label (peer, place, title)"

# table_of SCENARIO TITLE
table_of()
{
	say
	say "### $2"
	say
	say "| | seconds | of which the task | processor seconds | rows a second | WAL, MB | last pages to first |"
	say "| --- | --- | --- | --- | --- | --- | --- |"
	must_sql <<-SQL
		SELECT format('| %s | %s | %s | %s | %s | %s | %s |', title,
		    bench.figure(array_agg(seconds), 2),
		    bench.figure(array_agg(task_seconds), 2),
		    bench.figure(array_agg(cpu_seconds), 2),
		    to_char(CASE WHEN '$1' = 'few' THEN $few_rows ELSE $rows END
		        / percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds),
		        'FM999,999,999'),
		    bench.figure(array_agg(wal_bytes::float / 1e6), 2),
		    bench.figure(array_agg(page_growth), 2))
		FROM bench.measurement JOIN $labels USING (peer)
		WHERE scenario = '$1' GROUP BY title, place ORDER BY place;
	SQL
}

# times_as_fast SCENARIO PEER OTHER: how many times as fast as OTHER PEER was
# in the same round.
times_as_fast()
{
	say "SELECT other.seconds / self.seconds,
		    other.cpu_seconds / nullif(self.cpu_seconds, 0)
		FROM bench.measurement AS self
		JOIN bench.measurement AS other USING (scenario, round)
		WHERE (scenario, self.peer, other.peer) = ('$1', '$2', '$3')"
}

# time_part: the same the other way round.
time_part()
{
	times_as_fast "$1" "$3" "$2"
}

# measured SCENARIO FIGURE: of flow_add_upsert, whatever its time.
measured()
{
	say "SELECT $2, NULL FROM bench.measurement
		WHERE (scenario, peer) = ('$1', 'flowpg')"
}

goals()
{
	say
	say "### Goals"
	say
	say "| flow_add_upsert | goal | measured | | the same of processor time |"
	say "| --- | --- | --- | --- | --- |"
	goal 'empty target: times as fast as INSERT ... ON CONFLICT' \
		"$(times_as_fast empty flowpg bare)" '>=' 1.25
	goal 'empty target, parallel_pages = 2: times as fast as INSERT ... ON CONFLICT' \
		"$(times_as_fast empty flowpg_parallel bare)" '>=' 1.8
	goal 'every row changed: times as fast as INSERT ... ON CONFLICT' \
		"$(times_as_fast changed flowpg bare)" '>=' 0.95
	goal 'no row changed: part of the time of ... WHERE t IS DISTINCT FROM excluded' \
		"$(time_part unchanged flowpg bare_where)" '<=' 0.4
	goal 'no row changed: MB of WAL' \
		"$(measured unchanged 'wal_bytes / 1e6')" '<=' 1
	goal 'empty target: median time of a page of the last tenth to that of the first' \
		"$(measured empty page_growth)" '<=' 1.2
	goal 'every row changed: median time of a page of the last tenth to that of the first' \
		"$(measured changed page_growth)" '<=' 1.2
}

section()
{
	say "## upsert"
	say
	describe_environment
	say
	say "$rows rows of 6 columns (integer key, text, numeric, integer, timestamptz, text), pages of $page_size rows," \
		"$rounds rounds in which all ways take turns; median (least .. most). Ratios are of the same round."
	goals
	table_of empty 'Empty target'
	table_of changed 'Every row changed'
	table_of unchanged 'No row changed'
	table_of few "Empty target, $few_rows rows: ways whose time grows with the square of the rows"
	[ -n "$quick" ] ||
		table_of square "The same ways with $rows rows, measured once"
}

make_tables
define_upserts
for ((round = 1; round <= rounds; round++))
do
	say "Round $round of $rounds ..."
	measure_round "$round"
done
if [ -z "$quick" ]
then
	say "All rows in pages by ROW_NUMBER() and OFFSET ..."
	measure_all 1 square empty source row_number offset
fi
section >"$work/upsert.md"
