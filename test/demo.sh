#!/bin/bash
# demo.sh - the whole way of real data from a legacy database through three
# levels to a published table, on a server that lives as long as this script.
#
#   bash test/demo.sh
#
# Needs nothing but Debian 12 (see test/check.sh) and about a minute.  Ends with
# status 0 if all figures agree with those computed from the CSV file without
# flowpg.  What it does is in test/demo/*.sql.
set -u -o pipefail

source_directory=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
. "$source_directory/test/lib/build.sh"

step()
{
	say
	say "== $*"
}

# run_sql DATABASE ROLE FILE [psql options], in the directory of the data
run_sql()
{
	local database=$1 role=$2 file=$3

	shift 3
	cd "$tree/test/data" &&
		"$bindir/psql" -X -q -v ON_ERROR_STOP=1 -P pager=off -P footer=off \
			-h "$work/socket" -p "$port" -U "$role" -d "$database" \
			-v host="$work/socket" -v port="$port" "$@" <"../demo/$file"
}

must_sql()
{
	run 600 run_sql "$@" && return
	say "The end of the server's log:" >&2
	tail -n 40 "$work/server.log" >&2
	complain "$3 failed"
	exit 1
}

make_work_directory
install_packages && build_flowpg "$source_directory" || exit 1

step "A server of its own"
run 120 start_server || { complain "could not start a server"; exit 1; }
say "PostgreSQL $("$bindir/postgres" -V | sed 's/.*) //; s/ .*//') with shared_preload_libraries = 'flowpg'"

step "The legacy system: flights from New York in January 2013 (legacy.sql)"
must_sql postgres postgres databases.sql
must_sql legacy postgres legacy.sql

step "The warehouse: levels 0, 1, 2 and a report (warehouse.sql)"
must_sql warehouse postgres warehouse.sql -t >/dev/null

step "Four DAGs, each waiting for the one before (dags.sql)"
must_sql warehouse etl dags.sql -t >/dev/null
must_sql warehouse etl pipeline.sql

step "The backfill of 31 days (backfill.sql)"
must_sql warehouse etl backfill.sql

step "What came of it (results.sql)"
must_sql warehouse etl results.sql

step "The same figures straight from the CSV file, without flowpg"
must_sql postgres postgres figures_of_csv.sql >"$work/figures_of_csv"
must_sql warehouse etl figures_of_warehouse.sql >"$work/figures_of_warehouse"
if [ ! -s "$work/figures_of_csv" ] ||
	! diff "$work/figures_of_csv" "$work/figures_of_warehouse" >"$work/difference"
then
	head -n 40 "$work/difference" >&2
	complain "figures differ (< CSV file, > warehouse)"
	exit 1
fi
say "figures agree: $(wc -l <"$work/figures_of_csv") lines of rows a level," \
	"rows a day, delays a carrier and day, departures an hour"
