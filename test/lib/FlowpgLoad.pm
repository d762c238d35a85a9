
=pod

=head1 NAME

FlowpgLoad - what TAP tests need besides FlowpgTest: gates, errors, crashes

=head1 DESCRIPTION

A gate is an advisory lock that a session of the test holds: a task that asks
for the same lock stands still until the gate is opened, so that a test sees it
at work without measuring time.

=cut

package FlowpgLoad;

use strict;
use warnings;

use Carp;
use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use FlowpgTest;

our @EXPORT = qw(
  value value_as shows error_of error_as
  close_gate pass_gate
  wait_for_exit kill_server start_again crash_count patiently
  resident_kb
  make_kill_once wait_through_crashes
);

=pod

=over

=item value($node, $sql, db => ...)

=item value_as($node, $role, $sql, db => ...)

What the SQL yields; the second one in a session of the role.

=cut

sub value
{
	my ($node, $sql, %options) = @_;

	return $node->safe_psql($options{db} // 'postgres', $sql);
}

sub value_as
{
	my ($node, $role, $sql, %options) = @_;

	return $node->safe_psql($options{db} // 'postgres',
		$sql, extra_params => [ '-U', $role ]);
}

=pod

=item shows($node, $sql, $expected, $name, db => ...)

A test: the SQL yields what is expected.

=cut

sub shows
{
	my ($node, $sql, $expected, $name, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is(value($node, $sql, %options), $expected, $name);
}

=pod

=item error_of($node, $sql, db => ...)

=item error_as($node, $role, $sql, db => ...)

The error that the SQL raises, as "SQLSTATE message", or "no error".

=cut

sub error_of
{
	my ($node, $sql, %options) = @_;
	my ($code, $stdout, $stderr) = $node->psql(
		$options{db} // 'postgres',
		"\\set VERBOSITY verbose\n$sql",
		extra_params => $options{params} // []);

	return $stderr =~ /^(?:psql:.*?: )?(?:ERROR|FATAL):\s+(\w{5}): (.*)$/m
	  ? "$1 $2"
	  : $code == 0 ? 'no error'
	  :              "psql has failed: $stderr";
}

sub error_as
{
	my ($node, $role, $sql, %options) = @_;

	return error_of($node, $sql, %options, params => [ '-U', $role ]);
}

=pod

=item close_gate($node, $key, db => ...)

Closes a gate; the result's C<open> opens it again.  Tasks pass the gate with
the SQL expression that pass_gate($key) gives.

=cut

sub close_gate
{
	my ($node, $key, %options) = @_;
	my $session = $node->background_psql($options{db} // 'postgres');

	$session->set_query_timer_restart;
	$session->query_safe("SELECT pg_advisory_lock($key)");
	return bless { session => $session, key => $key }, 'FlowpgLoad::Gate';
}

sub pass_gate
{
	my ($key) = @_;

	return "pg_advisory_xact_lock_shared($key)";
}

sub FlowpgLoad::Gate::open
{
	my ($self) = @_;

	return unless $self->{session};
	$self->{session}->query_safe("SELECT pg_advisory_unlock($self->{key})");
	$self->{session}->quit;
	$self->{session} = undef;
	return;
}

=pod

=item wait_for_exit(@pids)

Waits until none of the processes is there any more; the seconds that it took.

=cut

sub wait_for_exit
{
	my (@pids) = @_;
	my $since = time;

	return 0 unless grep { is_alive($_) } @pids;
	while (grep { is_alive($_) } @pids)
	{
		croak "processes @pids are still there"
		  if time - $since > $PostgreSQL::Test::Utils::timeout_default;
		usleep(10_000);
	}
	return time - $since;
}

# Orphans that have ended may stay as zombies until init looks after them.
sub is_alive
{
	my ($pid) = @_;

	return kill(0, $pid) && (read_proc($pid, 'stat') // '') !~ /\) Z/;
}

# A file of the process in /proc, where the system has that and the process is
# still there: it can go at any moment, before the file is opened or after.
sub read_proc
{
	my ($pid, $name) = @_;

	open(my $file, '<', "/proc/$pid/$name") or return undef;
	local $/;
	return scalar readline($file);
}

=pod

=item kill_server($node)

Kills the postmaster and waits until the processes that it leaves behind have
ended by themselves; the seconds that it took them.

=item start_again($node)

Starts the server at once; true if that has worked at the first try.

=cut

sub kill_server
{
	my ($node) = @_;
	my @processes = map { [ split /\|/ ] } split /\n/,
	  $node->safe_psql('postgres',
		'SELECT pid, backend_type FROM pg_stat_activity WHERE pid <> pg_backend_pid()'
	  );
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my $since = time;
	my $seconds;

	$node->kill9;
	foreach my $process (@processes)
	{
		note(sprintf '%s is gone after %.2f s', $process->[1], time - $since)
		  if wait_for_exit($process->[0]) > 0;
	}
	$seconds = time - $since;

	# a zombie would keep a new postmaster from starting
	usleep(10_000) while kill(0, $postmaster);
	return $seconds;
}

sub start_again
{
	my ($node) = @_;

	return $node->start(fail_ok => 1);
}

=pod

=item patiently { ... }

Does it again as long as psql ends before it has read what it is to do, as it
does where the server goes down at that moment; what the block yields.

=cut

sub patiently(&)
{
	my ($code) = @_;

	while (1)
	{
		my $result = eval { $code->() };

		return $result unless $@;
		die $@ unless $@ =~ /Broken pipe/;
	}
}

=pod

=item crash_count($node)

How often the server has gone through the restart that the death of one of its
processes forces.

=cut

sub crash_count
{
	my ($node) = @_;
	my $log = slurp_file($node->logfile);
	my @restarts = $log =~ /all server processes terminated; reinitializing/g;

	return scalar @restarts;
}

=pod

=item resident_kb($pid)

The private memory of a process in kB, where the system tells it (Linux):
what it shares with other processes, such as shared_buffers, is left out.

=cut

sub resident_kb
{
	my ($pid) = @_;

	my ($kb) = (read_proc($pid, 'status') // '') =~ /^RssAnon:\s+(\d+) kB/m;
	return $kb;
}

=pod

=item wait_through_crashes($node, $count)

Waits until the server has gone through so many crashes since its start, and
takes connections again.

=item make_kill_once($node, db => ...)

Makes the SQL function kill_once(key text), which kills its own process with
SIGKILL when it is called for the first time with that key.

=cut

sub wait_through_crashes
{
	my ($node, $count) = @_;
	my $since = time;

	while (crash_count($node) < $count)
	{
		croak "the server has not crashed $count times"
		  if time - $since > $PostgreSQL::Test::Utils::timeout_default;
		usleep(50_000);
	}
	return patiently { $node->poll_query_until('postgres', 'SELECT true') };
}

sub make_kill_once
{
	my ($node, %options) = @_;
	my $dir = $node->basedir . '/kills';

	mkdir $dir;
	return $node->safe_psql(
		$options{db} // 'postgres', qq{
CREATE FUNCTION kill_once(key text) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
	EXECUTE format('COPY (SELECT 1) TO PROGRAM %L',
		format('cat > /dev/null; test -e "%1\$s" || { touch "%1\$s"; kill -9 %2\$s; }',
			'$dir/' || key, pg_backend_pid()));
END \$\$});
}

=pod

=back

=cut

1;
