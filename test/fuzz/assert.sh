#!/bin/bash
# assert.sh [TEST...] - builds flowpg with its assertions, which Debian's server
# lacks, and runs TAP tests (names of files) with it.
#
#   FLOWPG_FUZZ_SECONDS=300 bash test/fuzz/assert.sh 350_fuzz
set -u -o pipefail

source_directory=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd) || exit 1
. "$source_directory/test/lib/build.sh"
export PG_TEST_TIMEOUT_DEFAULT=${PG_TEST_TIMEOUT_DEFAULT:-180}

make_work_directory
# ExceptionalCondition is there in any server; assert_enabled is not used.
export COPT=-DUSE_ASSERT_CHECKING
build_flowpg "$source_directory" || exit 1
cd "$tree" || exit 1
nm -D --undefined-only "$bindir/../lib/flowpg.so" | grep -q ExceptionalCondition ||
	{ say "there are no assertions in it"; exit 1; }

[ $# -gt 0 ] || set -- 010_crash 060_upsert 110_act 160_property 225_parallel 270_upsert_kill 350_fuzz
status=0
for name in "$@"
do
	as_server_user make -s installcheck "${make_options[@]}" REGRESS= ISOLATION= \
		"PROVE_TESTS=test/t/$name.pl" || status=1
	if grep -rh TRAP: tmp_check/log
	then
		status=1
	fi
done
exit "$status"
