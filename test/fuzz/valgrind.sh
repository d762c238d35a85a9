#!/bin/bash
# valgrind.sh [TEST...] - runs tests with all server processes under valgrind and
# shows what it says about code of flowpg.  Tests are names of pg_regress or of
# TAP files; with none, all of pg_regress and a few TAP tests.
#
#   bash test/fuzz/valgrind.sh cron schedule 001_basic
#
# Needs valgrind beside what the tests need, and patience: twenty times the time.
# What tests print is not looked at, as some give up waiting: only what valgrind
# has logged.  The status is 1 where that names flowpg.
set -u -o pipefail

source_directory=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd) || exit 1
. "$source_directory/test/lib/build.sh"
export PG_TEST_TIMEOUT_DEFAULT=600

# The server's errors have no source lines in them, for it has no debugging
# information here; flowpg's have.
errors_of_flowpg()
{
	perl -0777 -ne '
		s/^==\d+== ?//mg;
		foreach my $error (split /\n\s*\n/)
		{
			my $of = join "\n", grep { !/vg_replace/ } split /\n/, $error;
			next unless $of =~ /\b(fp_|flow_)\w*|\((?:src\/)?\w+\.c:\d+\)/;
			print "$error\n\n" unless $seen{ $of =~ s/0x[0-9A-F]+//gr }++;
		}' "$@"
}

make_work_directory
build_flowpg "$source_directory" || exit 1
mkdir -m 1777 "$work/valgrind"
mv "$bindir/postgres" "$bindir/postgres.bin"
cat >"$bindir/postgres" <<-SH
	#!/bin/sh
	# what initdb runs has no flowpg in it
	case \$1 in
		-V | --boot | --single | --check)
			exec "$bindir/postgres.bin" "\$@" ;;
	esac
	exec valgrind -q --leak-check=no --gen-suppressions=no --num-callers=30 \\
		--suppressions=$tree/test/fuzz/postgres.supp \\
		--log-file=$work/valgrind/%p.log "$bindir/postgres.bin" "\$@"
SH
chmod 755 "$bindir/postgres"

[ $# -gt 0 ] || set -- all 001_basic 060_upsert 110_act 120_operators 200_replace
cd "$tree" || exit 1
for name in "$@"
do
	say "$name ..."
	case $name in
		all) set -- ;;
		[0-9]*) set -- REGRESS= "PROVE_TESTS=test/t/$name.pl" ;;
		*) set -- TAP_TESTS= "REGRESS=$name" ;;
	esac
	[ $# -gt 0 ] || set -- TAP_TESTS=
	as_server_user make -s installcheck "${make_options[@]}" ISOLATION= "$@" 2>&1 | tee "$work/log" |
		grep -E "^(test |not ok|Result)"
	[ "${PIPESTATUS[0]}" = 0 ] || tail -qn 8 "$work/log" log/*.log
done

ls "$work"/valgrind/*.log >/dev/null || exit 1
errors_of_flowpg "$work"/valgrind/*.log >"$work/errors"
cat "$work/errors"
say "$(ls "$work"/valgrind | wc -l) processes, $(grep -c . "$work/errors") lines about flowpg"
[ ! -s "$work/errors" ]
