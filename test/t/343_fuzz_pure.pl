
# The pure files take any input: replays test/fuzz/corpus, what a fuzzer began
# with and what it found, through test/fuzz/pure.c.  There are sanitizers in it
# where the compiler has them.

use strict;
use warnings;

use Cwd qw(getcwd);
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $directory = 'test/fuzz';
my $module = PostgreSQL::Test::Utils::tempdir() . '/pure.so';
my $node = PostgreSQL::Test::Cluster->new('fuzz_pure');

$node->init;

# Without sanitizers it still checks what the code says.
my $preload = build('sanitizers');
if (!defined $preload)
{
	note 'no sanitizers here';
	$preload = build('plain');
}
ok(defined $preload, 'pure.c is compiled') or BAIL_OUT('no compiler');

# One statement an input, so that the last one on the way to an abort is known.
my @inputs = map { read_inputs($_) } sort glob "$directory/corpus/*";
my $sql = "CREATE FUNCTION fuzz_one(bytea) RETURNS void LANGUAGE c AS '$module'";
$sql .= ";\n\nSELECT fuzz_one('\\x" . unpack('H*', $_) . "')" foreach @inputs;
$sql .= ";\n\nSELECT 'all of them';\n\n";

my ($status, $output) = single_user($preload, $sql);
is($status, 0, 'no input brings the server down');
like($output, qr/all of them/, 'and no check fails');
is(() = $output =~ /^\s*1: fuzz_one/mg,
	2 * @inputs, scalar(@inputs) . ' inputs were replayed');
diag($output =~ s/.*(?=(?:.*\n){40}\z)//sr) if $status != 0;

# a check of pure.c does end it: an input that is none of the kinds holds, this
# one does not
($status, $output) = single_user($preload,
	"CREATE FUNCTION fuzz_one(bytea) RETURNS void LANGUAGE c AS '$module';\n\n"
	  . "SELECT fuzz_one('broken');\n\n");
isnt($status, 0, 'a check that fails is seen');
like($output, qr/does not hold/, 'and named');

done_testing();

# What LD_PRELOAD must hold, '' for nothing; undef where it cannot be compiled,
# or a server does not run so.
sub build
{
	my ($kind) = @_;
	my ($stdout, $stderr);
	my @command = ('bash', "$directory/build_module.sh", $module,
		$ENV{PG_CONFIG} // 'pg_config');

	push @command, 'plain' if $kind eq 'plain';
	IPC::Run::run(\@command, '>', \$stdout, '2>', \$stderr) or do
	{
		note $stderr;
		return undef;
	};
	chomp $stdout;
	my ($ok, $trial) = eval { single_user($stdout, "SELECT 1;\n\n") };

	return defined $ok && $ok == 0 ? $stdout : undef;
}

sub read_inputs
{
	my ($name) = @_;

	return split /\n----\n/, slurp_file($name) =~ s/\n\z//r;
}

# The server alone in one process; its exit status and what it said.
sub single_user
{
	my ($libraries, $input) = @_;
	my $said = '';
	local $ENV{LD_PRELOAD} = $libraries if $libraries ne '';
	local $ENV{ASAN_OPTIONS} =
	  'detect_leaks=0:detect_stack_use_after_return=0';
	local $ENV{UBSAN_OPTIONS} = 'print_stacktrace=1';
	my $server = IPC::Run::start(
		[ 'postgres', '--single', '-j', '-F', '-D', $node->data_dir, 'postgres' ],
		'<', \$input, '>', \$said, '2>&1',
		IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default));

	eval { $server->finish; 1 } or do
	{
		my $error = $@;

		$server->kill_kill;
		die $error;
	};
	return ($server->full_result(0), $said);
}
