#!/bin/bash
# faults.sh - runs the rounds of test/t/340_faults.pl, many of them, and writes
# what came of it into RELIABILITY.md.
#
#   bash test/faults.sh --rounds 1000 [--seed N]
#
# A round takes about two seconds.  Needs nothing but Debian 12 (see check.sh).
# The exit status is 0 if nothing was lost, doubled or otherwise wrong.
set -u -o pipefail

source_directory=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
. "$source_directory/test/lib/build.sh"

results=$source_directory/test/RELIABILITY.md
rounds=1000
seed=1

usage()
{
	say "usage: bash test/faults.sh [--rounds N] [--seed N]" >&2
	exit 2
}

while [ $# -gt 0 ]
do
	[ $# -ge 2 ] && [[ $2 =~ ^[0-9]+$ ]] || usage
	case $1 in
		--rounds) rounds=$2 ;;
		--seed) seed=$2 ;;
		*) usage ;;
	esac
	shift 2
done

run_rounds()
{
	cd "$tree" &&
		as_server_user env FLOWPG_FAULT_ROUNDS="$rounds" \
			FLOWPG_FAULT_SEED="$seed" FLOWPG_FAULT_REPORT="$work/figures" \
			PG_TEST_TIMEOUT_DEFAULT=90 \
			make -s installcheck "${make_options[@]}" REGRESS= ISOLATION= \
			PROVE_TESTS=test/t/340_faults.pl PROVE_FLAGS=--verbose 2>&1 |
		sed -u '/^ok [0-9]/d'
}

write_results()
{
	cat <<-MD
		# What flowpg survives

		Written by \`bash test/faults.sh --rounds $rounds --seed $seed\`. In each round something is done to a server under a mixed
		load; what must hold after it is computed by a model that flowpg does not know. The faults, the load and the
		model are described in \`t/340_faults.pl\` and \`lib/FlowpgFaults.pm\`. Processes die here, machines do not: what
		a disk keeps when the power fails is not tested.

		| | |
		| --- | --- |
		| date | $(date -u +%Y-%m-%d) |
		| flowpg | ${revision:-not a checkout} |
		| PostgreSQL | $("$bindir/postgres" --version | sed 's/^postgres (PostgreSQL) //'), fsync on |
		| machine | $(nproc) cores, $(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1048576 }' /proc/meminfo), $(processor), Linux $(uname -r | cut -d. -f1-2) |

	MD
	cat "$work/figures"
	cat <<-MD

		Recovery is counted from the moment at which the fault is over (a lock is given back, a server is told to start;
		where a process was killed, from the kill) until a run that is asked for then has succeeded; the goal is 5
		seconds. The figures include what it takes to start psql.
	MD
}

find_revision src sql test/t test/lib
make_work_directory
install_packages tests && build_flowpg "$source_directory" || exit
run $((rounds * 10 + 300)) run_rounds
status=$?
if [ -s "$work/figures" ]
then
	write_results >"$work/results" && cat "$work/results" >"$results" || exit
	say "Wrote ${results#"$source_directory/"}."
else
	find "$tree/tmp_check/log" -name 'regress_log_*' -exec tail -n 60 {} +
	complain "there are no figures"
	exit 1
fi
exit "$status"
