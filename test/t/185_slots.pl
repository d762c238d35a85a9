
# What shared memory keeps for a database and its roles is given back, and taken
# again, however the database comes and goes.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $node = new_node(
	'slots',
	databases => [ 'a', 'b', 'c' ],
	conf => 'flowpg.max_workers = 1');

foreach my $db ('a', 'b')
{
	define($node, q{
SELECT flow_create_dag('d');
SELECT flow_add_sql('d', 'a', 'SELECT pg_advisory_xact_lock_shared(1)');
}, db => $db);
}

# Ends the scheduler of a database that takes no connections, and waits until
# the launcher has found that it cannot start another one: it looks at one
# database after the other, and starts that of c.
sub forget_database
{
	my ($db) = @_;
	my $pid = scheduler_pid($node, db => $db);

	$node->safe_psql('postgres', "ALTER DATABASE $db ALLOW_CONNECTIONS false");
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_for_exit($pid);
	$pid = scheduler_pid($node, db => 'c');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_for_exit($pid);
	wait_for_scheduler($node, db => 'c');
	is(process_count($node, 'scheduler', db => $db), 0,
		'a database that takes no connections has no scheduler');
	return;
}

# ------------------------------------------------------------------------
# A database that cannot be connected to for a while

forget_database('a');
$node->safe_psql('postgres', 'ALTER DATABASE a ALLOW_CONNECTIONS true');
wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'flowpg scheduler' AND datname = 'a'}, 'the scheduler of a');
pass('ALTER DATABASE brings it back');

forget_database('a');
$node->safe_psql('postgres', q{UPDATE pg_database SET datallowconn = true WHERE datname = 'a'});
is(wait_for_run($node, trigger($node, 'd', db => 'a'), db => 'a'), 'success',
	'so does whoever asks for a run');

# ------------------------------------------------------------------------
# The extension is dropped while its worker does not get to leave: the lane,
# the only one, is free for other databases when it has left

my $gate = close_gate($node, 1, db => 'b');
my $run = trigger($node, 'd', db => 'b');
wait_for_task($node, $run, 'a', 'running', db => 'b');
wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'flowpg worker' AND datname = 'b' AND wait_event = 'advisory'}, 'its worker to be at work');
my ($worker) = worker_pids($node, db => 'b');
my $scheduler = scheduler_pid($node, db => 'b');
signal_process('STOP', $worker);
$node->safe_psql('b', 'DROP EXTENSION flowpg CASCADE');
wait_for_exit($scheduler);
signal_process('CONT', $worker);
wait_for_exit($worker);
is(wait_for_run($node, trigger($node, 'd', db => 'a'), db => 'a'), 'success',
	'another database has the lane');
$gate->open;

# ------------------------------------------------------------------------
# The first look at a database fails

my $file = $node->data_dir . '/base/'
  . value($node, q{SELECT oid FROM pg_database WHERE datname = 'a'}) . '/PG_VERSION';
my $offset = -s $node->logfile;
$node->stop;
rename($file, "$file.away") or die "could not rename $file: $!";
$node->start;
wait_for_log_line($node, qr/flowpg scheduler.* is not a valid data directory/, $offset);
rename("$file.away", $file) or die "could not rename $file: $!";
wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'flowpg scheduler' AND datname = 'a'}, 'the scheduler of a');
pass('it is looked at again');

$node->stop;
done_testing();
