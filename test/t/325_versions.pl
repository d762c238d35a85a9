
# A library and SQL objects of two versions do not meet; ALTER EXTENSION UPDATE
# brings them together without a restart.  The other versions are made up: the
# scripts of this one, put beside them in the installation.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);
my $scripts = "$sharedir/extension";
my ($version) = slurp_file("$scripts/flowpg.control") =~ /^default_version = '(.*)'/m;
my ($older, $newer) = ('0.0.9', "$version.1");
my @made_up;

plan skip_all => "cannot write to $scripts" unless -w $scripts;

sub make_script
{
	my ($name, $text) = @_;

	push @made_up, "$scripts/flowpg--$name.sql";
	return append_to_file($made_up[-1], $text);
}

END
{
	unlink @made_up;
}

# The older one has no flow_cancel_run, and a column that has gone since.
my $script = slurp_file("$scripts/flowpg--$version.sql");
make_script($older, "$script
DROP FUNCTION flow_cancel_run(bigint);
ALTER TABLE flow.pool ADD COLUMN colour text;
");
my ($function) = $script =~ /(CREATE FUNCTION flow_cancel_run\(.*?;)/s;
make_script("$older--$version", "$function
ALTER TABLE flow.pool DROP COLUMN colour;
");
# The newer one touches nothing.
make_script("$version--$newer", "SELECT 1;\n");
make_script("$newer--$version", "SELECT 1;\n");

my $node = new_node('versions', databases => ['current']);

sub makes_waiting
{
	my ($db, $installed, $hint) = @_;
	my $problem = "the library of flowpg is of version $version, the extension in this database of version $installed";
	my ($code, $stdout, $stderr);

	wait_for($node, q{SELECT state = 'waiting' FROM flow.scheduler_status}, 'the scheduler to wait', db => $db);
	shows($node, 'SELECT problem FROM flow.scheduler_status', $problem, "$installed: the scheduler says why it waits", db => $db);
	shows($node, 'SELECT next_wake_at - heartbeat >= interval $$59 s$$ FROM flow.scheduler_status', 't', 'and sleeps', db => $db);
	($code, $stdout, $stderr) = $node->psql($db, q{SELECT flow_create_dag('x')});
	is($stderr, "psql:<stdin>:1: ERROR:  $problem\nHINT:  $hint", 'sessions get an error with a hint');
	wait_for_log_line($node, qr/WARNING:  flowpg runs nothing in database "$db": \Q$problem\E\n.*HINT:  \Q$hint\E/);
	return;
}

# ------------------------------------------------------------------------
# SQL objects that are older than the library

$node->safe_psql('postgres', 'CREATE DATABASE older');
$node->safe_psql('older', "CREATE EXTENSION flowpg VERSION '$older'");
makes_waiting('older', $older, 'Use ALTER EXTENSION flowpg UPDATE.');
my $scheduler = scheduler_pid($node, db => 'older');
my $session = $node->background_psql('older', on_error_stop => 0);
$session->query(q{SELECT flow_create_dag('x')});
$node->safe_psql('older', 'BEGIN; ALTER EXTENSION flowpg UPDATE; ROLLBACK');
shows($node, 'SELECT state FROM flow.scheduler_status', 'waiting', 'an update that is rolled back changes nothing', db => 'older');
$node->safe_psql('older', 'ALTER EXTENSION flowpg UPDATE');
wait_for($node, q{SELECT state = 'running' AND problem IS NULL FROM flow.scheduler_status}, 'the scheduler to go on', db => 'older');
is(scheduler_pid($node, db => 'older'), $scheduler, 'updated, it goes on: the same process');
like($session->query(q{SELECT flow_create_dag('x')}), qr/^x$/m, 'so does a session');
$session->quit;
define($node, q{SELECT flow_add_sql('x', 'one', 'SELECT 1')}, db => 'older');
is(wait_for_run($node, trigger($node, 'x', db => 'older'), db => 'older'), 'success', 'DAGs run');

# the update has brought what a new installation has
my $objects = q{
SELECT pg_describe_object(classid, objid, 0) FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'flowpg') AND deptype = 'e'
UNION ALL
SELECT attrelid::regclass || '.' || attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull
FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE relnamespace = 'flow'::regnamespace AND attnum > 0 AND NOT attisdropped ORDER BY 1};
is(value($node, $objects, db => 'older'), value($node, $objects, db => 'current'),
	'an updated extension has the objects of a new one');

# ------------------------------------------------------------------------
# SQL objects that are newer

define($node, q{
SELECT flow_create_dag('x');
SELECT flow_add_sql('x', 'one', 'SELECT 1');
}, db => 'current');
is(wait_for_run($node, trigger($node, 'x', db => 'current'), db => 'current'), 'success', 'there is a worker');
$session = $node->background_psql('current', on_error_stop => 0);
$session->query(q{SELECT flow_trigger('x')});
wait_for($node, q{SELECT count(*) = 2 FROM flow.dag_run WHERE state = 'success'}, 'the run', db => 'current');
$node->safe_psql('current', "ALTER EXTENSION flowpg UPDATE TO '$newer'");
makes_waiting('current', $newer, "Install the library of version $newer, unless that is done, and restart the server.");
is($session->query(q{SELECT flow_trigger('x')}), '', 'also a session that has used flowpg before');
$session->quit;
shows($node, 'SELECT count(*) FROM flow.dag_run', '2', 'is refused', db => 'current');
$node->restart;
makes_waiting('current', $newer, "Install the library of version $newer, unless that is done, and restart the server.");
$node->safe_psql('current', "ALTER EXTENSION flowpg UPDATE TO '$version'");
is(wait_for_run($node, trigger($node, 'x', db => 'current'), db => 'current'), 'success', 'back again, it runs');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal (6|11)\b|could not stop/, 'no process has crashed');
$node->stop;
done_testing();
