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

all_parts=(upsert)
results=$bench_directory/RESULTS.md

# Settings that are not PostgreSQL's defaults.  Nothing is done in the
# background that would fall into one measurement and not into the next; each
# begins with a checkpoint of its own and a vacuumed table.
server_settings()
{
	cat <<-CONF
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

# ---------------------------------------------------------------------------
# Results
# ---------------------------------------------------------------------------

# Of the checkout that is built, which may change meanwhile; nothing where it
# is not a checkout.
find_revision()
{
	revision=$(git -C "$source_directory" rev-parse --short HEAD 2>/dev/null)
	[ -z "$revision" ] ||
		[ -z "$(git -C "$source_directory" status --porcelain -- src sql)" ] ||
		revision+=" with changes"
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

processor()
{
	sed -n 's/^model name[[:space:]]*: *//p' /proc/cpuinfo | head -n 1 |
		grep . || uname -m
}

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

find_revision
load=$(cut -d ' ' -f 1 /proc/loadavg)
make_work_directory
install_packages && build_flowpg "$source_directory" || exit 1
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
