#!/bin/bash
# check.sh - builds flowpg with warnings as errors and runs its three test
# suites: pg_regress, isolation and TAP.
#
#   bash test/check.sh
#
# Needs nothing but Debian 12: as root it installs the packages that are
# missing, otherwise it names them.  Leaves nothing behind but those packages.
# The last line is "N passed, N failed"; the exit status is 0 if tests have
# run and none has failed.  PG_MAJOR=17 takes another PostgreSQL than 15.
set -u -o pipefail

source_directory=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
. "$source_directory/test/lib/build.sh"

# A suite that hangs must not hold up whoever waits for the result for ever.
suite_time_limit=830

# What a TAP test waits for in vain is given up after so many seconds.
export PG_TEST_TIMEOUT_DEFAULT=90

passed=0
failed=0

# Counts of a suite's log on one line: passed, failed.  pg_regress tells of
# files, "test a ... ok", since PostgreSQL 16 as "ok 1 - a"; prove of single
# assertions.  What was skipped counts as neither.
count_results()
{
	awk '
		/^(test | +)[^ ]+ +\.\.\. ok / { passed++ }
		/^(test | +)[^ ]+ +\.\.\. FAILED/ { failed++ }
		/^ok [0-9]+/ && !/# *skip/ { passed++ }
		/^not ok [0-9]+/ && !/# *TODO/ { failed++ }
		END { print passed + 0, failed + 0 }' "$1"
}

# Prints what pg_regress says; of TAP not the assertions that hold, nor notes.
# What goes to stderr is about failures, and is printed as it is.
run_suite()
{
	{
		as_server_user make -s installcheck "PROVE_FLAGS=--verbose --timer" \
			"${make_options[@]}" "${suite_options[@]}" 2>&3 |
			tee "$log" | sed -u "${is_tap:+/^ok [0-9]/d; /^#/d}"
	} 3>&1
}

# What a person needs to see of a suite that has failed.
show_failure()
{
	local file

	[ -n "$is_tap" ] || while IFS= read -r file
	do
		say "----- ${file#./}"
		head -n 300 "$file"
	done < <(find . -name regression.diffs -newer "$tree/tmp_check")

	while IFS= read -r file
	do
		say "----- end of ${file#./}"
		tail -n 60 "$file"
	done < <(failed_logs)
}

# Logs of the TAP tests that prove lists as failed; where a server did not even
# start, its log.
failed_logs()
{
	local name

	[ -n "$is_tap" ] || { find tmp_check -name postmaster.log; return; }
	sed -n 's,^test/t/\([^ ]*\)\.pl .*\(Wstat\|Failed\).*,\1,p' "$log" |
		sort -u |
		while read -r name
		do
			find tmp_check -name "regress_log_$name" -o \
				-name "${name}_*.log"
		done
}

# suite NAME MAKE-VARIABLE...: the variables empty the other suites.
suite()
{
	local name=$1 status suite_passed suite_failed crashes started=$SECONDS

	shift
	suite_options=("$@")
	is_tap=
	[ "$name" != TAP ] || is_tap=1
	log=$work/$name.log
	say
	say "Running the $name tests ..."
	run "$suite_time_limit" run_suite
	status=$?
	read -r suite_passed suite_failed < <(count_results "$log")

	[ "$status" -ne 124 ] ||
		say "The $name tests were ended after $suite_time_limit s."
	# a script that dies, a server that does not start: failed without a line
	if [ "$status" -ne 0 ] && [ "$suite_failed" -eq 0 ]
	then
		say "The $name tests ended with status $status."
		suite_failed=1
	fi
	# no test kills a process by these: it is a fault in the C code
	crashes=$(grep -rlE 'terminated by signal (4|6|7|8|11)\b' \
		tmp_check --include='*.log' 2>/dev/null)
	if [ -n "$crashes" ]
	then
		say "A server process crashed, see:" "$crashes"
		grep -hE -B2 -A2 'terminated by signal (4|6|7|8|11)\b' $crashes
		suite_failed=$((suite_failed + 1))
	fi

	[ "$suite_failed" -eq 0 ] || show_failure
	say "$name: $suite_passed passed, $suite_failed failed," \
		"$((SECONDS - started)) s"
	passed=$((passed + suite_passed))
	failed=$((failed + suite_failed))
}

run_suites()
{
	cd "$tree" || return
	suite regress ISOLATION= TAP_TESTS=
	[ -z "$(find test/specs -name '*.spec' 2>/dev/null)" ] ||
		suite isolation REGRESS= TAP_TESTS=
	suite TAP REGRESS= ISOLATION=
}

make_work_directory
install_packages tests && build_flowpg "$source_directory" && run_suites

say
say "$passed passed, $failed failed"
[ "$passed" -gt 0 ] && [ "$failed" -eq 0 ]
