#!/bin/bash
# guards.sh - shows that what flowpg's tests try against rights fails for its
# guard, and not by chance: takes one guard after the other out of the sources,
# and expects the test that is named with it to fail.
#
#   bash test/guards.sh [NAME...]
#
# NAME is a file of test/guards without its .patch, or the beginning of one;
# without one all are run, at half a minute each.  Needs nothing but Debian 12
# (see check.sh).  The exit status is 0 if each guard was shown to be needed.
set -u -o pipefail

source_directory=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
. "$source_directory/test/lib/build.sh"

guards=$source_directory/test/guards

# What a test waits for in vain without a guard is given up after so long.
export PG_TEST_TIMEOUT_DEFAULT=30

# field NAME PATCH: a line "# NAME: value" at the head of a patch.
field()
{
	sed -n "/^---/q; s/^# $1: *//p" "$2"
}

# ---------------------------------------------------------------------------
# One test: of pg_regress and isolation by its name, of TAP by that of its file
# ---------------------------------------------------------------------------

is_tap()
{
	[ -f "$tree/test/t/$1.pl" ]
}

run_test()
{
	local variables=(ISOLATION= TAP_TESTS= "REGRESS=$1")

	[ ! -f "$tree/test/specs/$1.spec" ] ||
		variables=(REGRESS= TAP_TESTS= "ISOLATION=$1")
	! is_tap "$1" || variables=(REGRESS= ISOLATION= PROVE_FLAGS=--verbose
		"PROVE_TESTS=test/t/$1.pl")
	cd "$tree" && rm -rf tmp_check output_iso regression.diffs &&
		as_server_user make -s installcheck "${make_options[@]}" \
			"${variables[@]}"
}

# What the test has said against the sources: assertions that do not hold, what
# was waited for in vain, errors of SQL that must work, lines that are not as
# expected.  Nothing where the server did not even start.
findings()
{
	if is_tap "$1"
	then
		! grep -q '^ok ' "$work/test.log" ||
			sed -n 's/^not ok [0-9]* - //p; s/^.*\(timed out waiting for\)/\1/p
				s/^.*error running SQL: //p' \
				"$work/test.log" "$tree/tmp_check/log/regress_log_$1"
	else
		cat "$tree/regression.diffs" "$tree/output_iso/regression.diffs" \
			2>/dev/null | sed -n '/^---/d; /^+++/d; s/^[-+]//p'
	fi
}

# A test that fails in any case shows nothing.
check_test()
{
	say "Running $1 with all guards ..."
	run 300 run_test "$1" >"$work/test.log" 2>&1 && return
	tail -n 40 "$work/test.log" >&2
	complain "test $1 fails with all guards in place"
}

# ---------------------------------------------------------------------------
# One guard
# ---------------------------------------------------------------------------

# The files are newer than what was made of them, whichever way they change.
apply_patch()
{
	cd "$tree" &&
		as_server_user patch -p1 --fuzz=0 --no-backup-if-mismatch "$@"
}

build_again()
{
	cd "$tree" &&
		as_server_user make -s -j2 "${make_options[@]}" &&
		as_server_user make -s install "${make_options[@]}" >/dev/null
}

# Sets outcome.
try_without()
{
	local patch=$1 test=$2 expected=$3 status

	outcome="DOES NOT APPLY"
	apply_patch --dry-run <"$patch" >"$work/patch.log" 2>&1 &&
		apply_patch <"$patch" >>"$work/patch.log" 2>&1 ||
		{ cat "$work/patch.log" >&2; return; }
	if ! run 300 build_again >"$work/build.log" 2>&1
	then
		outcome="DOES NOT BUILD"
		tail -n 20 "$work/build.log" >&2
	else
		run 300 run_test "$test" >"$work/test.log" 2>&1
		status=$?
		outcome="NOT NEEDED BY $test"
		if [ "$status" -ne 0 ]
		then
			outcome="test $test fails in another way without it"
			findings "$test" >"$work/findings"
			! grep -qF -e "$expected" "$work/findings" ||
				outcome="test $test fails without it"
		fi
	fi
	apply_patch -R <"$patch" >"$work/patch.log" 2>&1 ||
		{ cat "$work/patch.log" >&2; exit 1; }
}

# ---------------------------------------------------------------------------

patches=()
for name in "${@:-}"
do
	found=("$guards/$name"*.patch)
	[ -f "${found[0]}" ] ||
		{ complain "there is no guard $name in ${guards#"$source_directory/"}"; exit 2; }
	patches+=("${found[@]}")
done

make_work_directory
install_packages guards && build_flowpg "$source_directory" || exit
for test in $(for patch in "${patches[@]}"; do field test "$patch"; done | sort -u)
do
	check_test "$test" || exit
done

shown=0
for patch in "${patches[@]}"
do
	name=$(basename "$patch" .patch)
	started=$SECONDS
	try_without "$patch" "$(field test "$patch")" "$(field shows "$patch")"
	say "guard $name: $outcome"
	case $outcome in
		*"fails without it") shown=$((shown + 1)) ;;
		"NOT NEEDED"*) ;;
		*another*) head -n 20 "$work/findings" | cut -c 1-200 >&2
			tail -n 5 "$work/test.log" >&2 ;;
	esac
done
say
say "${#patches[@]} guards, $shown shown, $((${#patches[@]} - shown)) not shown"
[ "$shown" -eq "${#patches[@]}" ]
