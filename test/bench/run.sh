#!/bin/bash
# run.sh - measures flowpg beside what people do without it, on a server that
# lives as long as this script.
#
#   bash test/bench/run.sh [--quick] [PART...]
#
# PART is a file of this directory without its .sh; without one all are run.
# Needs nothing but Debian 12 (see test/check.sh).  Writes RESULTS.md, where
# the sections of parts that are not run stay.  --quick takes fewer rows and
# rounds and under two minutes: it shows that all works, its figures are no
# measurement, and RESULTS.md stays as it is.
set -u -o pipefail

bench_directory=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
source_directory=$(cd "$bench_directory/../.." && pwd) || exit 1
. "$source_directory/test/lib/build.sh"

# life first: what others leave behind is no part of it
all_parts=(life tasks latency due upsert)
results=$bench_directory/RESULTS.md

# Settings that are not PostgreSQL's defaults.  Nothing is done in the
# background that would fall into one measurement and not into the next; each
# begins with a checkpoint of its own and a vacuumed table.
server_settings()
{
	cat <<-CONF
		shared_preload_libraries = 'flowpg, pg_cron'
		cron.database_name = 'bench'
		cron.use_background_workers = on
		cron.max_running_jobs = 8
		cron.timezone = 'UTC'
		max_worker_processes = 64
		shared_buffers = '$shared_buffers'
		max_wal_size = '16GB'
		min_wal_size = '4GB'
		checkpoint_timeout = '1h'
		autovacuum = off
		fsync = on
		synchronous_commit = on
		track_commit_timestamp = on
		timezone = 'UTC'
	CONF
}

# Tables of measurements, and what takes them.
measure_schema()
{
	cat "$bench_directory/measure.sql"
}

# ---------------------------------------------------------------------------
# For the parts
# ---------------------------------------------------------------------------

# sql [psql options]: runs what is on stdin, prints rows as they are.
sql()
{
	cat >"$work/statements.sql"
	run 1800 "$bindir/psql" -X -q -A -t -v ON_ERROR_STOP=1 \
		-h "$work/socket" -p "$port" -U postgres -d bench \
		-v clock_ticks="$(getconf CLK_TCK)" "$@" -f "$work/statements.sql"
}

# The same, and it must succeed.
must_sql()
{
	sql "$@" && return
	say "The end of the server's log:" >&2
	tail -n 20 "$work/server.log" >&2
	complain "part $part could not be measured"
	exit 1
}

# in_background NAME: a session that runs what is on stdin, until end_background.
in_background()
{
	cat >"$work/$1.sql"
	as_server_user "$bindir/psql" -X -q -A -t -h "$work/socket" -p "$port" \
		-d "dbname=bench application_name=$1" -f "$work/$1.sql" \
		>"$work/$1.out" 2>&1 </dev/null &
}

# end_background NAME...
end_background()
{
	local name

	for name in "$@"
	do
		must_sql >/dev/null <<-SQL
			SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
			WHERE application_name = '$name';
		SQL
	done
}

# transactions_per_second OPTIONS...: of pgbench, which runs what is on stdin.
transactions_per_second()
{
	cat >"$work/pgbench.sql"
	run 600 "$bindir/pgbench" -n -h "$work/socket" -p "$port" -U postgres \
		-f "$work/pgbench.sql" "$@" bench >"$work/pgbench.out" 2>&1 ||
		{ cat "$work/pgbench.out" >&2; exit 1; }
	sed -n 's/^tps = \([0-9.]*\).*/\1/p' "$work/pgbench.out"
}

# independent_tasks DAG COUNT: a DAG of tasks that do nothing, with nothing to
# hold them back but the number of workers.
independent_tasks()
{
	must_sql >/dev/null <<-SQL
		SELECT flow_create_pool('bench', 100000);
		SELECT flow_apply(jsonb_build_object('dag_id', '$1', 'max_active_tasks', 100000,
		    'tasks', jsonb_agg(jsonb_build_object('task_id', 't' || i,
		        'operator', 'sql', 'command', 'SELECT 1', 'pool', 'bench'))))
		FROM generate_series(1, $2) AS i;
	SQL
}

# sample MEASURE PEER ROUND VALUE
sample()
{
	must_sql <<<"INSERT INTO bench.sample VALUES ('$1', '$2', $3, $4)"
}

# Autovacuum has its part in what takes minutes; run.sh turns it off again.
with_autovacuum()
{
	must_sql >/dev/null <<-SQL
		ALTER SYSTEM SET autovacuum = on;
		ALTER SYSTEM SET autovacuum_naptime = '10s';
		SELECT pg_reload_conf();
	SQL
}

without_autovacuum()
{
	must_sql >/dev/null <<-SQL
		ALTER SYSTEM RESET ALL;
		SELECT pg_reload_conf();
	SQL
}

# until_true SECONDS QUERY: waits for it.
until_true()
{
	local limit=$((SECONDS + $1))

	until [ "$(sql <<<"$2")" = t ]
	do
		[ "$SECONDS" -lt "$limit" ] ||
			{ complain "waited $1 s in vain for: $2"; exit 1; }
		sleep 0.1
	done
}

# ---------------------------------------------------------------------------
# Results
# ---------------------------------------------------------------------------

# goal WHAT FIGURES OPERATOR GOAL: a row of the table of goals.  FIGURES is a
# query of one row a round: the figure, whose median counts, and another one
# that is shown beside it.
goal()
{
	must_sql <<-SQL
		SELECT format('| %s | %s %s | %s | %s | %s |', '$1',
		    CASE '$3' WHEN '>=' THEN 'at least' ELSE 'at most' END, '$4',
		    bench.figure(array_agg(figure::float), 2),
		    CASE WHEN percentile_cont(0.5) WITHIN GROUP (ORDER BY figure) $3 $4
		        THEN 'reached' ELSE '**not reached**' END,
		    bench.figure(array_agg(beside::float), 2))
		FROM ($2) AS figures (figure, beside)
		HAVING count(*) > 0;
	SQL
}

# goals_of_samples: the head of a table of goals by samples.
goals_of_samples()
{
	say
	say "| | goal | measured | | the one and the other |"
	say "| --- | --- | --- | --- | --- |"
}

# goal_of_samples WHAT MEASURE PEER OTHER OPERATOR GOAL [UNIT]: PEER's samples
# divided by OTHER's of the same round; without OTHER, PEER's own.
goal_of_samples()
{
	local other=${4:-}

	must_sql <<-SQL
		SELECT format('| %s | %s %s | %s | %s | %s |', '$1',
		    CASE '$5' WHEN '>=' THEN 'at least' ELSE 'at most' END, '$6',
		    bench.figure(array_agg(self.value / coalesce(other.value, 1)), 2),
		    CASE WHEN percentile_cont(0.5) WITHIN GROUP (ORDER BY
		            self.value / coalesce(other.value, 1)) $5 $6
		        THEN 'reached' ELSE '**not reached**' END,
		    concat_ws(' to ', bench.short(array_agg(self.value)),
		        bench.short(array_agg(other.value))) || ' ${7:-}')
		FROM bench.sample AS self LEFT JOIN bench.sample AS other
		    ON (other.measure, other.peer, other.round)
		    = (self.measure, '$other', self.round)
		WHERE (self.measure, self.peer) = ('$2', '$3')
		    AND ('$other' = '' OR other.value IS NOT NULL)
		HAVING count(*) > 0;
	SQL
}

# samples MEASURE UNIT: a table of what was measured.
samples()
{
	say
	say "| $1 | $2 |"
	say "| --- | --- |"
	must_sql <<-SQL
		SELECT format('| %s | %s |', peer, bench.figure(array_agg(value), 2))
		FROM bench.sample WHERE measure = '$1' GROUP BY peer ORDER BY min(place);
	SQL
}

# What was measured, where and how: each section has its own, for parts are
# measured at different times.
describe_environment()
{
	cat <<-END
		| | |
		| --- | --- |
		| date | $(date -u '+%Y-%m-%d %H:%M UTC') |
		| processor | $(processor), $(nproc) cores |
		| memory | $(awk '/^MemTotal:/ { printf "%.1f GB", $2 / 1048576 }' /proc/meminfo) |
		| kernel | $(uname -s -r -m) |
		| PostgreSQL | $(sql <<<'SHOW server_version') |
		| flowpg | $(sql <<<"SELECT extversion FROM pg_extension WHERE extname = 'flowpg'")${revision:+, revision $revision} |
		| load average before | $load |
		| settings | $(sql <<<"$changed_settings") |
	END
}

changed_settings="
	SELECT string_agg(name || ' = ' || current_setting(name), ', '
		ORDER BY name)
	FROM pg_settings
	WHERE source = 'configuration file' AND name IN ('shared_buffers',
		'max_wal_size', 'checkpoint_timeout', 'autovacuum',
		'fsync', 'synchronous_commit', 'track_commit_timestamp')"

# The section of a part in RESULTS.md, where there is one.
old_section()
{
	[ ! -f "$results" ] ||
		sed -n "/^<!-- begin $1 -->\$/,/^<!-- end $1 -->\$/p" "$results"
}

new_section()
{
	say "<!-- begin $1 -->"
	cat "$work/$1.md"
	say "<!-- end $1 -->"
}

# The file is replaced when it is complete, not before.
write_results()
{
	local name

	{
		say "# Results of test/bench/run.sh"
		say
		say "Written by \`bash test/bench/run.sh\`; README.md tells how to read it. Sections may be of different dates."
		for name in "${all_parts[@]}"
		do
			if [ -f "$work/$name.md" ]
			then
				say
				new_section "$name"
			elif [ -n "$(old_section "$name")" ]
			then
				say
				old_section "$name"
			fi
		done
	} >"$work/RESULTS.md" && cat "$work/RESULTS.md" >"$results"
}

# ---------------------------------------------------------------------------

usage()
{
	complain "$1
Usage: bash test/bench/run.sh [--quick] [PART...], of: ${all_parts[*]}"
	exit 2
}

quick= parts=()
for argument in "$@"
do
	case $argument in
		--quick) quick=1 ;;
		-*) usage "there is no option $argument" ;;
		*)
			[[ " ${all_parts[*]} " = *" $argument "* ]] ||
				usage "there is no part $argument"
			parts+=("$argument")
			;;
	esac
done
[ "${#parts[@]}" -gt 0 ] || parts=("${all_parts[@]}")

# tables and indexes of a part are to fit, twice
shared_buffers=2GB
[ -z "$quick" ] || shared_buffers=512MB

find_revision src sql
load=$(cut -d ' ' -f 1 /proc/loadavg)
make_work_directory
install_packages bench && build_flowpg "$source_directory" || exit 1
server_settings >"$work/settings"
start_bench_server()
{
	start_server <"$work/settings"
}
run 120 start_bench_server ||
	{ complain "could not start a server"; exit 1; }
run 60 "$bindir/createdb" -h "$work/socket" -p "$port" -U postgres bench ||
	exit 1

[ -z "$quick" ] ||
	say "QUICK: few rows and rounds; these figures are no measurement."
for part in "${parts[@]}"
do
	say "Measuring $part ..."
	measure_schema | must_sql
	. "$bench_directory/$part.sh"
	without_autovacuum
	say
	cat "$work/$part.md"
done

say
if [ -n "$quick" ]
then
	say "QUICK: these figures are no measurement; RESULTS.md is as it was."
else
	write_results || { complain "could not write $results"; exit 1; }
	say "Written to $results"
fi
