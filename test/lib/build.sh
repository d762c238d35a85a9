# build.sh - what the scripts of test/ share: from a bare machine to
# flowpg built and installed, in a directory that vanishes at the end.
#
# Nothing is installed into the system but packages: PostgreSQL's programs are
# copied into the work directory (they find their files relative to themselves)
# and flowpg goes into that copy.  Servers cannot be run by root, so root does
# all of it as user postgres; anyone else as himself.
#
# To be sourced by bash.  Sets work, bindir, tree and port.

pg_major=${PG_MAJOR:-15}

work= tree= bindir=
port=5432

# The environment of the caller must not change what tests see or print.
unset "${!PG@}" MAKEFLAGS MFLAGS MAKELEVEL PERL5LIB PERL5OPT CDPATH TMPDIR
unset PROVE_FLAGS PROVE_TESTS EXTRA_REGRESS_OPTS TEMP_CONFIG COPT PROFILE
export LANG=C.UTF-8 LC_ALL=C.UTF-8 TZ=UTC
umask 022

say()
{
	printf '%s\n' "$*"
}

# Fails, having said why.
complain()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	return 1
}

# find_revision PATH...: of the checkout that is built, which may change
# meanwhile, and whether these differ from it; nothing where it is no checkout.
find_revision()
{
	revision=$(git -C "$source_directory" rev-parse --short HEAD 2>/dev/null)
	[ -z "$revision" ] ||
		[ -z "$(git -C "$source_directory" status --porcelain -- "$@")" ] ||
		revision+=" with changes"
}

processor()
{
	sed -n 's/^model name[[:space:]]*: *//p' /proc/cpuinfo | head -n 1 |
		grep . || uname -m
}

# ---------------------------------------------------------------------------
# Ending: at exit, at a failure, when interrupted
# ---------------------------------------------------------------------------

trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

clean_up()
{
	local status=$? job children

	trap - EXIT
	trap '' HUP INT TERM
	children=$(jobs -p)
	for job in $children
	do
		kill -TERM -- "-$job" 2>/dev/null || kill -TERM "$job" 2>/dev/null
	done
	wait
	restore_cluster_conf
	if [ -n "$work" ]
	then
		cd /
		stop_servers
		for job in $children
		do
			kill -KILL -- "-$job" 2>/dev/null
		done
		end_processes
		rm -rf "$work"
	fi
	exit "$status"
}

# Servers are daemons, not children of this script.
stop_servers()
{
	local file process

	while IFS= read -r file
	do
		# it may have ended meanwhile
		read -r process 2>/dev/null <"$file" || continue
		as_server_user "$bindir/pg_ctl" -D "${file%/*}" -m immediate -t 20 \
			stop >/dev/null 2>&1
		wait_for_end "$process"
	done < <(find "$work" -name postmaster.pid 2>/dev/null)
}

# What is left, such as a server that was just starting, is known by its
# program, which lies in the work directory, or by working there (MariaDB).
end_processes()
{
	local process

	while process=$(process_of_work)
	do
		kill -QUIT "$process" 2>/dev/null
		wait_for_end "$process" || kill -KILL "$process" 2>/dev/null
	done
}

process_of_work()
{
	local process

	for process in /proc/[0-9]*
	do
		case $(readlink "$process/exe" "$process/cwd" 2>/dev/null) in
			*"$work"/*) echo "${process#/proc/}"; return 0 ;;
		esac
	done
	return 1
}

wait_for_end()
{
	timeout 10 tail -s 0.1 --pid="$1" -f /dev/null 2>/dev/null
}

# run SECONDS COMMAND...: for what may take long.  A signal ends this script at
# once and not after the command, which has a process group of its own; so does
# the time limit, with status 124.
run()
{
	local limit=$1 child timer ended= status

	shift
	set -m
	( "$@" ) </dev/null &
	child=$!
	set +m
	sleep "$limit" </dev/null >/dev/null 2>&1 &
	timer=$!
	wait -n -p ended "$child" "$timer"
	status=$?
	if [ "$ended" = "$timer" ]
	then
		kill -TERM -- "-$child"
		wait "$child"
		status=124
	else
		kill "$timer"
		wait "$timer" 2>/dev/null
	fi
	return "$status"
}

# ---------------------------------------------------------------------------
# Packages
# ---------------------------------------------------------------------------

# The packages that this machine lacks, by what they are needed for.
missing_packages()
{
	local lib=/usr/lib/postgresql/$pg_major

	[ -x "$lib/bin/postgres" ] && [ -x "$lib/bin/initdb" ] ||
		echo "postgresql-$pg_major"
	[ -f "$lib/lib/pgxs/src/makefiles/pgxs.mk" ] &&
		[ -f "/usr/include/postgresql/$pg_major/server/postgres.h" ] ||
		echo "postgresql-server-dev-$pg_major"
	command -v gcc >/dev/null || echo gcc
	command -v make >/dev/null || echo make
	[ -f /usr/include/stdio.h ] || echo libc6-dev
	case ${1:-} in
		tests | guards)
			{ command -v prove && perl -MIPC::Run -e 1; } >/dev/null 2>&1 ||
				echo libipc-run-perl
			;;
	esac
	[ "${1:-}" != guards ] || command -v patch >/dev/null || echo patch
	[ "${1:-}" != tests ] || missing_mariadb_packages
	[ "${1:-}" != bench ] || [ -f "$lib/lib/pg_cron.so" ] ||
		echo "postgresql-$pg_major-cron"
}

# A legacy system of another make, and what reads it.  The server's program
# alone: its package with the service would start one.  Debian has the wrapper
# for its own PostgreSQL only; with another one these tests are skipped.
missing_mariadb_packages()
{
	local lib=/usr/lib/postgresql/$pg_major

	[ "$pg_major" = 15 ] || return 0
	[ -x /usr/sbin/mariadbd ] && [ -x /usr/bin/mariadb-install-db ] ||
		echo mariadb-server-core
	[ -x /usr/bin/mariadb ] || echo mariadb-client-core
	[ -f "$lib/lib/mysql_fdw.so" ] || echo "postgresql-$pg_major-mysql-fdw"
}

# With "tests": also what the test suites need; with "guards", guards.sh; with
# "bench", the benchmarks.
install_packages()
{
	local missing

	missing=$(missing_packages "$@" | tr '\n' ' ')
	missing=${missing% }
	[ -n "$missing" ] || return 0

	if ! command -v apt-get >/dev/null
	then
		complain "this machine lacks what these Debian packages hold: $missing"
		return
	fi
	if [ "$(id -u)" != 0 ]
	then
		complain "these packages are missing: $missing
Run this once as root, or: apt-get install $missing"
		return
	fi

	say "Installing $missing ..."
	if ! run 1800 apt_install "$missing" >"$work/apt.log" 2>&1
	then
		tail -n 30 "$work/apt.log" >&2
		complain "could not install $missing"
		return
	fi
	missing=$(missing_packages "$@" | tr '\n' ' ')
	[ -z "$missing" ] || complain "still missing: $missing"
}

apt_install()
{
	export DEBIAN_FRONTEND=noninteractive

	# an installation that was interrupted is ended first
	dpkg --configure -a &&
		apt-get update &&
		apt-get install -y --no-install-recommends postgresql-common &&
		forbid_main_cluster &&
		apt-get install -y --no-install-recommends $1
}

# A new PostgreSQL package makes and starts a cluster, unless told not to.  The
# administrator's word on that is put back afterwards.
cluster_conf=/etc/postgresql-common/createcluster.conf

forbid_main_cluster()
{
	[ ! -f "$cluster_conf" ] ||
		cp -p "$cluster_conf" "$work/createcluster.conf" || return
	: >"$work/createcluster.changed"
	echo 'create_main_cluster = false' >>"$cluster_conf"
}

restore_cluster_conf()
{
	[ -n "$work" ] && [ -f "$work/createcluster.changed" ] || return 0
	if [ -f "$work/createcluster.conf" ]
	then
		cp -p "$work/createcluster.conf" "$cluster_conf"
	else
		rm -f "$cluster_conf"
	fi
	rm -f "$work/createcluster.changed"
}

# ---------------------------------------------------------------------------
# Build
# ---------------------------------------------------------------------------

# PGXS and sockets want a short path without spaces, whatever the checkout's.
make_work_directory()
{
	work=$(mktemp -d /tmp/flowpg.XXXXXX) || exit 1
	chmod 755 "$work"
	tree=$work/tree
	bindir=$work/pg/usr/lib/postgresql/$pg_major/bin
	export HOME=$work TMPDIR=$work/tmp
	mkdir -m 1777 "$TMPDIR"
	# the caller's directory may be closed to the server's user
	cd "$work" || exit 1
}

as_server_user()
{
	if [ "$(id -u)" = 0 ]
	then
		runuser -u postgres -- "$@"
	else
		"$@"
	fi
}

# PostgreSQL's programs and the tree, both in the work directory.
copy_sources()
{
	local lib=usr/lib/postgresql/$pg_major share=usr/share/postgresql/$pg_major

	mkdir -p "$work/pg/$lib" "$work/pg/$share" "$tree" &&
		tar -C "/$lib" --exclude=./lib/bitcode -cf - . |
			tar -C "$work/pg/$lib" --no-same-owner -xf - &&
		tar -C "/$share" -chf - . |
			tar -C "$work/pg/$share" --no-same-owner -xf - &&
		ln -s /usr/include "$work/pg/usr/include" &&
		tar -C "$1" --exclude=./.git --exclude=./tmp_check -cf - . |
			tar -C "$tree" --no-same-owner -xf - || return
	# another flowpg, installed in the system, is not what is tested
	rm -f "$work/pg/$lib/lib/flowpg.so" "$work/pg/$share/extension/flowpg"[.-]*
	[ "$(id -u)" != 0 ] || chown -R -h postgres: "$work"
}

# What a checkout has from an earlier build may be of another server.
make_flowpg()
{
	cd "$tree" &&
		as_server_user make -s clean "${make_options[@]}" >/dev/null &&
		as_server_user make -s -j2 "${make_options[@]}" "COPT=-Werror ${COPT:-}" &&
		as_server_user make -s install "${make_options[@]}" >/dev/null
}

# Copies, builds with warnings as errors, and installs the tree at $1.
build_flowpg()
{
	say "Building flowpg for PostgreSQL $pg_major ..."
	make_options=("PG_CONFIG=$bindir/pg_config" with_llvm=no)
	run 300 copy_sources "$1" && run 900 make_flowpg ||
		complain "could not build flowpg"
}

# ---------------------------------------------------------------------------
# A server
# ---------------------------------------------------------------------------

# A server in the work directory, reached by a unix socket there alone.  What
# is on stdin goes into its configuration, too.
start_server()
{
	as_server_user mkdir "$work/socket" &&
		as_server_user "$bindir/initdb" -D "$work/data" -U postgres -A trust \
			-N -E UTF8 --locale=C.UTF-8 >"$work/initdb.log" 2>&1 ||
		{ cat "$work/initdb.log" >&2; return 1; }
	as_server_user tee -a "$work/data/postgresql.conf" >/dev/null <<-CONF
		shared_preload_libraries = 'flowpg'
		max_worker_processes = 24
		listen_addresses = ''
		unix_socket_directories = '$work/socket'
		port = $port
		$(cat)
	CONF
	as_server_user "$bindir/pg_ctl" -D "$work/data" -l "$work/server.log" -w \
		start >/dev/null || { cat "$work/server.log" >&2; return 1; }
}
