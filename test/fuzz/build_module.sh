#!/bin/bash
# build_module.sh OUTPUT PG_CONFIG [libfuzzer | plain] - compiles pure.c and the pure
# files with sanitizers into a module; prints what a server which loads it must
# have in LD_PRELOAD.
#
# gcc is enough to replay inputs; libFuzzer wants clang and its runtime
# (Debian: clang libclang-rt-14-dev).
set -eu
output=$1 pg_config=$2 kind=${3:-}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
sources=("$here/pure.c")
for name in cron schedule graph cycle trigger_rule jsonb_util
do
	sources+=("$here/../../src/$name.c")
done

# The start of AddressSanitizer in a process that it was not linked into leaves
# glibc 2.36's lock of message catalogues such that this waits for ever.
cat >"$output.c" <<-C
	char *bindtextdomain(const char *domain, const char *directory);
	char *
	bindtextdomain(const char *domain, const char *directory)
	{
		(void) domain;
		return (char *) directory;
	}
C
gcc -shared -fPIC -o "$output.preload" "$output.c"

# The server's flags say -fwrapv; without it, overflows are found, too.
flags=(-std=gnu99 -g -O1 -fPIC -shared -fno-omit-frame-pointer -D_GNU_SOURCE
	-Wall -Wno-ignored-attributes -Wl,-Bsymbolic
	-include "$here/shim.h" -I"$here/../../src"
	-I"$("$pg_config" --includedir-server)")

if [ "$kind" = plain ]
then
	gcc "${flags[@]}" -fwrapv -o "$output" "${sources[@]}"
	exit
fi
flags+=(-fsanitize=undefined,address -fno-sanitize-recover=all)
if [ -z "$kind" ]
then
	gcc "${flags[@]}" -o "$output" "${sources[@]}"
	runtime=$(gcc -print-file-name=libasan.so)
else
	runtime=$(clang -print-runtime-dir)
	clang "${flags[@]}" -shared-libasan -fsanitize=fuzzer-no-link \
		-DFUZZ_WITH_LIBFUZZER -o "$output" "${sources[@]}" \
		"$runtime/libclang_rt.fuzzer_no_main-x86_64.a" -lstdc++ -lm
	runtime=$runtime/libclang_rt.asan-x86_64.so
fi
echo "$runtime:$output.preload"
