
# It survives: a mixed load runs while something bad is done to the server in
# each round, chosen by a seed.  Whatever it is, each row comes once, records
# are in step, limits hold, nothing is left over, and the next run succeeds.
#
# FLOWPG_FAULT_ROUNDS is the number of rounds, FLOWPG_FAULT_SEED chooses them,
# FLOWPG_FAULT_KINDS (names, with commas) takes only some kinds.  Each kind comes
# once before one comes again.  Recovery times are reported, and fail nothing;
# FLOWPG_FAULT_REPORT is a file for the figures (see test/faults.sh).

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use FlowpgTest;
use FlowpgLoad;
use FlowpgFaults;

my $nrounds = $ENV{FLOWPG_FAULT_ROUNDS} // 20;
my $seed = $ENV{FLOWPG_FAULT_SEED} // 1;
my $file_limit = 1024 * 1024;

my $node = new_node(
	'faults',
	durable => 1,
	# so that a limit to the size of files can be lower than that of tables
	init => ['--wal-segsize=1'],
	conf => q{
flowpg.max_workers = 8
flowpg.simulated_now = '2024-01-01 00:00:00+00'
log_error_verbosity = verbose
log_checkpoints = off
});
my $load = FlowpgFaults->new($node);

sub pick { return $_[ int(rand(@_)) ]; }
sub pause { return usleep(int(rand($_[0] * 1e6))); }

# ------------------------------------------------------------------------
# Faults.  Each yields the time at which it was lifted, from which recovery is
# counted: where nothing can be lifted, when it was done.

# A process of the kind, waiting for one to come.
sub find_process
{
	my ($kind) = @_;
	my $deadline = time + 5;

	while (time < $deadline)
	{
		my @pids = eval { process_pids($node, $kind) };

		return pick(@pids) if @pids;
		usleep(10_000);
	}
	return undef;
}

sub kill_process
{
	my ($kind) = @_;
	my $pid = find_process($kind);
	my $since = time;

	note("there is no $kind to kill") unless defined $pid;
	signal_process('KILL', $pid) if defined $pid;
	# the others are told by the postmaster, which restarts them
	wait_for_exit($pid) if defined $pid;
	return $since;
}

sub terminate
{
	my ($kind, $limit) = @_;
	my $since = time;

	$load->surely("SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
WHERE backend_type = 'flowpg $kind' ORDER BY random() LIMIT $limit) p");
	return $since;
}

sub stop_and_start
{
	my ($mode) = @_;
	my $client;

	# a smart one waits for clients; meanwhile flowpg goes on
	$client = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT pg_sleep(0.4)' ], '>', \my $out, '2>', \my $err)
	  if $mode eq 'smart';
	usleep(50_000) if $client;
	$node->stop($mode);
	$client->finish if $client;
	my $since = time;
	$node->start;
	return $since;
}

# Locks for a while; what it is in the way of may win, in a deadlock.
sub hold_lock
{
	my ($lock) = @_;

	$load->ask("BEGIN; $lock; SELECT pg_sleep(" . (0.2 + rand(1.2)) . '); COMMIT');
	return time;
}

# Background workers of others take all places, and flowpg's processes must be
# started anew.
sub fill_places
{
	my $psql = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ], '<', \FlowpgFaults::hold_places_sql(0.3), '>', \my $out, '2>', \my $err);

	usleep(100_000);
	$load->surely(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type IN ('flowpg worker', '} . pick('flowpg scheduler', '') . q{')});
	$psql->finish;
	note('places taken: ' . ($out =~ /Workers Launched: (\d+)/ ? $1 : "none: $err"));
	return time;
}

# A server that has places for few of flowpg's processes, or none but the launcher.
sub start_with_few_places
{
	$load->surely('ALTER SYSTEM SET max_worker_processes = ' . pick(2, 3, 4));
	$node->restart;
	usleep(300_000);
	$load->surely('ALTER SYSTEM RESET max_worker_processes');
	$node->stop;
	my $since = time;
	$node->start;
	return $since;
}

# Files of flowpg's processes cannot grow any more, by a limit of the operating
# system to their size: to PostgreSQL that is what a full disk is, a page
# that a table cannot be extended by (53100).  WAL is spared.
sub limit_files
{
	my $set_limit = sub {
		my ($limit, @pids) = @_;

		# one may have ended
		system("prlimit --pid $_ --fsize=$limit: 2>/dev/null") foreach @pids;
	};
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my $limit = `prlimit --pid $postmaster --fsize --noheadings -o SOFT`;

	chomp $limit;
	# not the session that moves the clock, which may have to write any page that
	# it needs the buffer of; all that come later are limited
	$load->fill(4);
	$set_limit->($file_limit, process_pids($node));
	$load->set_clock($load->{now} + 60);
	$set_limit->($file_limit, $postmaster);
	usleep(300_000);
	$set_limit->($limit, $postmaster);
	$set_limit->($limit, FlowpgFaults::processes_in($node->data_dir));
	return time;
}

sub drop_target
{
	my $table = pick($load->droppable);

	$load->drop_table($table);
	pause(0.5);
	$load->make_table($table);
	return time;
}

sub change_definition
{
	foreach (1 .. 3)
	{
		my $dag = pick(grep { $_ !~ /^(dropped|probe)$/ } $load->dags);
		my $way = int(rand(3));

		if ($way == 0)
		{
			$load->surely("SELECT flow_alter_dag('$dag', priority => " . pick(-1, 0, 1) . ', description => $$' . rand() . '$$)');
		}
		else
		{
			$load->redefine($dag);
		}
		pause(0.1);
	}
	return time;
}

sub drop_dag
{
	$load->drop_dag;
	pause(0.3);
	$load->make_dag;
	return time;
}

sub drop_role
{
	$load->drop_owner;
	$load->add_hours(1);
	pause(0.5);
	$load->make_owner;
	return time;
}

sub move_clock
{
	my $now = $load->{now};

	foreach my $minutes ($now + 60, $now - 60, $now)
	{
		$load->set_clock($minutes) if $minutes >= 0;
		pause(0.3);
	}
	$load->set_clock($now + 60);
	return time;
}

my %faults = (
	'kill worker' => sub { kill_process('worker') },
	'kill scheduler' => sub { kill_process('scheduler') },
	'kill launcher' => sub { kill_process('launcher') },
	'kill postmaster' => sub { my $since = time; kill_server($node); start_again($node); return $since; },
	'terminate worker' => sub { terminate('worker', pick(1, 8)) },
	'terminate scheduler' => sub { terminate('scheduler', 1) },
	'terminate launcher' => sub { terminate('launcher', 1) },
	'stop smart' => sub { stop_and_start('smart') },
	'stop fast' => sub { stop_and_start('fast') },
	'stop immediate' => sub { stop_and_start('immediate') },
	'no places' => \&fill_places,
	'few places' => \&start_with_few_places,
	'files cannot grow' => \&limit_files,
	'lock users tables' => sub { hold_lock('LOCK TABLE ' . pick($load->droppable) . ' IN ' . pick('ACCESS EXCLUSIVE', 'SHARE') . ' MODE') },
	'lock flowpg tables' => sub {
		hold_lock(
			pick(
				(map { "LOCK TABLE flow.$_ IN " . pick('ACCESS EXCLUSIVE', 'SHARE ROW EXCLUSIVE') . ' MODE' }
					  qw(task_run dag_run dag_log coverage dag task request backfill attempt_history dag_progress position)),
				'SELECT FROM flow.task_run FOR UPDATE',
				'SELECT FROM flow.dag_run FOR UPDATE'));
	},
	'drop target' => \&drop_target,
	'change definition' => \&change_definition,
	'drop DAG' => \&drop_dag,
	'drop owner' => \&drop_role,
	'move clock' => \&move_clock);

delete $faults{'files cannot grow'} if system('prlimit --version >/dev/null 2>&1') != 0;
if (defined $ENV{FLOWPG_FAULT_KINDS})
{
	my %wanted = map { $_ => 1 } split /,/, $ENV{FLOWPG_FAULT_KINDS};

	delete $faults{$_} foreach grep { !$wanted{$_} } keys %faults;
}

# ------------------------------------------------------------------------
# Rounds

my %seconds;      # by kind of fault, how long each recovery took
my %seconds_down; # and how much of it the server itself needed
my $nviolations = 0;
my $nchecks = 0;
my @kinds;        # still to come before one comes again
my @since_check;
my $started = time;

# One assertion: nothing is wrong.
sub report
{
	my ($name, @wrong) = @_;

	$nviolations += @wrong;
	return is(join("\n", @wrong), '', $name);
}

$load->define_all;
foreach my $round (1 .. $nrounds)
{
	srand($seed * 1_000_003 + $round);
	@kinds = sort { $a->[0] <=> $b->[0] } map { [ rand(), $_ ] } sort keys %faults unless @kinds;

	my $kind = (shift @kinds)->[1];
	my @wrong;

	$load->correct if rand() < 0.5;
	$load->add_hours(pick(1, 2, 3));
	pause(0.2);
	my $since = $faults{$kind}->();

	# at times something else is done before all is up again
	if (rand() < 0.1)
	{
		my $second = pick(grep { /^(kill|terminate|stop)/ } sort keys %faults);

		$load->surely('SELECT');
		$since = $faults{$second}->();
		push @since_check, "$round $kind and $second";
		$kind = 'two at once';
	}
	else
	{
		push @since_check, "$round $kind";
	}
	my ($recovery, $up) = $load->recover($since);

	note(sprintf 'round %d: %s, recovered in %.2f s', $round, $kind, $recovery) if defined $recovery;
	push @{ $seconds{$kind} }, $recovery // 90;
	push @{ $seconds_down{$kind} }, $up // 90;
	push @wrong, 'no run succeeds any more' unless defined $recovery;
	push @wrong, $load->look;
	report("seed $seed, round $round: $kind", @wrong);

	last unless defined $recovery;
	if ($round == $nrounds || rand() < 0.3)
	{
		my @undone = $load->drain;

		$nchecks++;
		report("seed $seed, rounds " . join(', ', @since_check) . ': everything as it should be',
			@undone, @undone ? () : $load->check($round == $nrounds || $nchecks % 20 == 0),
			@undone ? () : $load->check_places);
		@since_check = ();
		last if @undone;
	}
}
report('nothing is left behind in an hour without faults', $load->check_temporary);
my %counts = $load->counts;

$node->stop;
report('no process outlives the server', FlowpgFaults::processes_in($node->data_dir));

# ------------------------------------------------------------------------
# Figures

sub percentile
{
	my ($part, @values) = @_;
	my @sorted = sort { $a <=> $b } @values;

	return $sorted[ int($part * $#sorted + 0.5) ];
}

my @lines = ('| fault | rounds | recovery median, s | p99 | max | until PostgreSQL is up, median | max |', '| --- | --: | --: | --: | --: | --: | --: |');
my @all = map { @$_ } values %seconds;
my @all_down = map { @$_ } values %seconds_down;

foreach my $kind (sort(keys %seconds), 'all')
{
	my @values = $kind eq 'all' ? @all : @{ $seconds{$kind} };
	my @down = $kind eq 'all' ? @all_down : @{ $seconds_down{$kind} };

	push @lines, sprintf '| %s | %d | %.2f | %.2f | %.2f | %.2f | %.2f |', $kind, scalar @values, (map { percentile($_, @values) } 0.5, 0.99, 1), percentile(0.5, @down), percentile(1, @down);
}
my $figures = join "\n",
  sprintf('Seed %d: %d rounds in %d s, with %d runs of %d DAGs, %d attempts and %d rows of source. All tables and records were checked %d times.',
	$seed, scalar @all, time - $started, $counts{runs}, scalar(my @dags = $load->dags), $counts{attempts}, $counts{rows}, $nchecks),
  '',
  '| | |', '| --- | --: |',
  '| rows lost | ' . ($load->{lost} // 0) . ' |',
  '| rows doubled | ' . ($load->{doubled} // 0) . ' |',
  "| violations in all, these included | $nviolations |",
  '', 'Attempts that the faults have met, by their SQLSTATE:', '',
  '| attempts | ended with |', '| --: | --- |', $counts{failures},
  '', @lines, '';

note($figures);
append_to_file($ENV{FLOWPG_FAULT_REPORT}, $figures) if defined $ENV{FLOWPG_FAULT_REPORT};
done_testing();
