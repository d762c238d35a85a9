#!/bin/bash
# pure.sh [SECONDS] - fuzzes the pure files with libFuzzer for so long (60), in
# a server in single-user mode.
#
#   bash test/fuzz/pure.sh 1800
#
# Needs clang and libclang-rt-14-dev (Debian) beside what the tests need.  What
# is found is left in /tmp/flowpg-fuzz: to keep it, add it to corpus/finds.
# FLOWPG_FUZZ_CORPUS names a directory that keeps inputs from run to run.
set -u -o pipefail

source_directory=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd) || exit 1
. "$source_directory/test/lib/build.sh"
seconds=${1:-60}
finds=/tmp/flowpg-fuzz
corpus=${FLOWPG_FUZZ_CORPUS:-}

# Each record of corpus/* becomes a file.
split_corpus()
{
	perl -e '
		my $directory = shift;
		local $/ = "\n----\n";
		while (<>)
		{
			s/\n(----\n)?\z//;
			open my $file, ">", sprintf("%s/seed%04d", $directory, $.) or die;
			print $file $_;
		}' "$@"
}

make_work_directory
copy_sources "$source_directory" || exit 1
mkdir -p "$finds" "${corpus:=$work/corpus}" "$work/seeds"
split_corpus "$work/seeds" "$tree"/test/fuzz/corpus/*
module=$work/pure.so
preload=$(bash "$tree/test/fuzz/build_module.sh" "$module" \
	"$bindir/pg_config" libfuzzer) || exit 1
[ "$(id -u)" != 0 ] || chown -R postgres: "$work" "$finds" "$corpus"
as_server_user "$bindir/initdb" -D "$work/data" -U postgres -A trust -N \
	-E UTF8 --locale=C.UTF-8 >/dev/null || exit 1

arguments="-max_total_time=$seconds -timeout=10 -rss_limit_mb=6000"
arguments="$arguments -dict=$tree/test/fuzz/tokens.dict -max_len=400"
arguments="$arguments -artifact_prefix=$finds/ -print_final_stats=1"
arguments="$arguments ${FLOWPG_FUZZ_ARGUMENTS:-} $corpus $work/seeds"
as_server_user env LD_PRELOAD="$preload" \
	ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 \
	UBSAN_OPTIONS=print_stacktrace=1 \
	nice -n 10 "$bindir/postgres" --single -j -D "$work/data" -F \
	-c restart_after_crash=off postgres <<-SQL
		CREATE FUNCTION fuzz_run(text) RETURNS void LANGUAGE c STRICT AS '$module';

		SELECT fuzz_run('$arguments');

	SQL
