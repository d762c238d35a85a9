
# Bad input: every function of the extension with arguments that hurt, documents
# that are not quite right, and the tables that users write, from two sessions at
# once while the scheduler is at work and the clock jumps.  An error is right; an
# internal one, a crash or a hang is not, and afterwards the scheduler must be the
# same, its memory in step with the tables, and a run like any other.
#
# FLOWPG_FUZZ_SEED is the seed; FLOWPG_FUZZ_SECONDS goes on for so long.  What is
# found belongs into sql/bad_input.sql.

use strict;
use warnings;
use utf8;

use Encode qw(encode_utf8);
use IPC::Run ();
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use FlowpgTest;

my $seed = $ENV{FLOWPG_FUZZ_SEED} // 1;
my $seconds = $ENV{FLOWPG_FUZZ_SECONDS} // 0;
my $nrounds = 5;
my $nstatements = 150;    # of each session in a round
my $timeout = 20;         # of a statement, in seconds

srand($seed);

my $node = new_node('fuzz',
	conf => qq{
log_line_prefix = '%m [%p] %e %b %q%a '
flowpg.max_workers = 4
flowpg.simulated_now = '2024-06-01 00:00:00+00'
statement_timeout = '${timeout}s'
max_locks_per_transaction = 256
});

# ------------------------------------------------------------------------
# What is there to be used

my @roles = qw(fuzz_user fuzz_other);
my @dags = ('a', 'b', 'c', 'other', q{d'été "%s"});
my @tasks = qw(s u k p r g t v);

my $set_up = q{
SELECT flow_grant('fuzz_user'), flow_grant('fuzz_other');
SELECT flow_create_pool('small', 1);
SET SESSION AUTHORIZATION fuzz_user;
SELECT flow_create_dag('c');
SELECT flow_add_sql('c', 's', 'SELECT pg_sleep(0.01)');
SELECT flow_create_dag('a', '@daily', '2024-05-28', catchup => true, retries => 1, retry_delay => '0',
	max_active_runs => 2, tags => '{x,y}', on_failure => 'SELECT run.message');
SELECT flow_add_sql('a', 's', 'SELECT run.ds AS d');
SELECT flow_add_upsert('a', 'u', 'source', 'target', upstream => '{s}', page_size => 7);
SELECT flow_add_check('a', 'k', 'SELECT count(*) > 0 FROM target', upstream => '{u}');
SELECT flow_add_sensor('a', 'p', 'SELECT true', poke_interval => '1 s', upstream => '{u}');
SELECT flow_add_branch('a', 'r', $$SELECT 'g'$$, upstream => '{k}');
SELECT flow_add_retention('a', 'g', 'target', 'at', '10 years', upstream => '{r}');
SELECT flow_add_trigger('a', 't', 'c', upstream => '{r}', trigger_rule => 'all_done');
SELECT flow_add_upsert('a', 'v', 'source', 'target', mode => 'append', incremental => true, lookback => '1 day',
	page_by => '{at}', upstream => '{u}', pool => 'small');
SELECT flow_create_dag('b', '0 */6 * * *', '2024-05-30', timezone => 'America/New_York', depends_on_past => true);
SELECT flow_add_sql('b', 's', 'SELECT 1/0', trigger_rule => 'always');
SELECT flow_add_sql('b', 'u', 'VACUUM source', in_transaction => false, upstream => '{s}');
SELECT flow_add_dependency('a', 'b');
SELECT flow_create_dag('d''été "%s"', '1 month', '2024-01-31');
SELECT flow_add_sql('d''été "%s"', 's', 'SELECT 1');
RESET SESSION AUTHORIZATION;
SELECT flow_create_dag('other', '@hourly', '2024-05-31 20:00');
SELECT flow_add_sql('other', 's', 'SELECT 1');
};

$node->safe_psql('postgres', q{
CREATE ROLE fuzz_user LOGIN;
CREATE ROLE fuzz_other LOGIN;
CREATE ROLE fuzz_nologin;
GRANT fuzz_other TO fuzz_user;
CREATE TABLE source (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT '2024-01-01', v text);
CREATE TABLE target (id bigint PRIMARY KEY, at timestamptz, v text);
CREATE INDEX ON source (at, id);
INSERT INTO source SELECT n, '2024-05-01'::timestamptz + n * interval '1 hour', 'v' || n FROM generate_series(1, 40) n;
ALTER TABLE source OWNER TO fuzz_user;
ALTER TABLE target OWNER TO fuzz_user;
});
define($node, encode_utf8($set_up));

my @documents = map { JSON::PP->new->utf8->decode($_) } split /\n/, $node->safe_psql('postgres', q{SELECT flow_export(dag_id) FROM flow.dag ORDER BY 1});

# Of all types, so that one that is new is not forgotten.
my @functions = map { read_function($_) } split /\n/, $node->safe_psql('postgres', q{
SELECT json_build_object('name', format('%I.%I', n.nspname, p.proname), 'kind', p.prokind,
	'ndefaults', p.pronargdefaults,
	'arguments', (SELECT coalesce(json_agg(json_build_array(p.proargnames[i], format_type(t, NULL)) ORDER BY i), '[]')
		FROM unnest(p.proargtypes) WITH ORDINALITY AS a(t, i)))
FROM pg_proc p
JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'flowpg'
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prorettype <> 'trigger'::regtype
ORDER BY p.proname});
my @views = split /\n/, $node->safe_psql('postgres', q{
SELECT format('%I.%I', schemaname, viewname) FROM pg_views WHERE schemaname = 'flow' ORDER BY 1});

cmp_ok(scalar @functions, '>', 50, 'all functions are found');

# ------------------------------------------------------------------------
# Values

my @nasty_texts = ('', ' ', q{'}, q{"}, q{\\}, q{%s%n}, '$1', "a\nb", "\t", "\x01", "\x7f", 'NULL', '😀', 'é' x 250, '😀' x 251,
	'x' x 250, 'x' x 251, '{}', '[]', '{"a":', "a\xa0b", "\x{202e}", "\x{feff}", '../../etc/passwd', 'a, b', 'pg_catalog', '-1', '--', '/*', ';',
	'x' x 5000);
my %texts = (
	schedule => ['@daily', '@once', '@continuous', '0 0 30 2 *', '0 0 29 2 MON', '* * * * * *', '*/15 9-17 * * MON-FRI', '0 0 L * *', '0 0 LW * *',
		'10 minutes', '1 second', '100 years', 'infinity', 'P1M', '-1 day', '@nope', '60 * * * *', '0 0 * * 8', '0 9 * * MON#2', '0 0 1 1 ? 2024'],
	timezone => ['UTC', 'Europe/Zurich', 'America/New_York', 'Pacific/Apia', 'Nope/Nope', 'UTP1MC77', '+25', 'Asia/Tokyo1', 'EST5EDT,M3.2.0,M11.1.0'],
	trigger_rule => [qw(all_success all_failed all_done one_success one_failed one_done none_failed none_failed_min_one_success none_skipped all_skipped always)],
	pool => [qw(default small nope)],
	state => [qw(success failed skipped running queued removed nope)],
	reprocess => [qw(none failed completed all missing)],
	mode => [qw(upsert append replace nope)],
	on_row_error => [qw(stop keep nope)],
	severity => [qw(error warn nope)],
	which => [qw(at_or_after after containing latest_complete)],
	run_window => ['22:00-06:00', '00:00-24:00', '25:00-26:00', '1-2', '06:00', '06:00-06:00'],
	source => ['source', 'SELECT * FROM source', 'SELECT * FROM source WHERE at < run.data_interval_end', 'target', 'nope', 'SELECT', 'flow.dag_run', 'SELECT 1 AS id',
		'SELECT id, at, v FROM source; SELECT 1', 'DELETE FROM source RETURNING *', 'pg_catalog.pg_class', 'SELECT id, 1/0 AS v FROM source'],
	target => ['target', 'source', 'nope', 'flow.task', 'pg_catalog.pg_class', 'flow.run_status', '"', 'a.b.c.d'],
	command => ['SELECT 1', 'SELECT 1/0', 'SELECT run.ds, run.conf', 'INSERT INTO target VALUES (run.run_id) ON CONFLICT DO NOTHING', 'SELECT pg_sleep(0.02)', 'BEGIN',
		'COMMIT', 'DO $$BEGIN RAISE EXCEPTION USING ERRCODE = \'P0001\', MESSAGE = repeat(\'é\', 9000); END$$', q{SELECT 's'}, q{SELECT '{s,u}'::text[]},
		'SELECT run.nope', 'SELECT run.*', 'VACUUM', 'SET ROLE postgres', 'CREATE TEMP TABLE x (a int); SELECT * FROM x', '', ';', 'SELEC', 'SELECT NULL', 'LISTEN x',
		'PREPARE q AS SELECT 1; EXECUTE q', 'SELECT repeat(\'x\', 100000)', 'DECLARE c CURSOR FOR SELECT 1; FETCH c', 'SELECT $1', 'SAVEPOINT x', 'EXPLAIN SELECT run.ds',
		q{SELECT flow_trigger('c')}, 'SELECT flow_context()', q{SELECT flow_result('s')}, 'COPY source TO STDOUT', 'SELECT pg_terminate_backend(pg_backend_pid())',
		'SELECT flow_clear(run.dag_id)'],
	replace_where => ['id < 10', 'at < run.data_interval_end', 'nope = 1', 'true', '1', 'id < 1/0', '(SELECT true)', 'count(*) > 1', 'true) OR (true'],
	description => ['text', 'é'],
	search_path => ['public', 'nope', '', '"a,b"', 'pg_temp', 'flow', ',']);
$texts{condition} = [ @{ $texts{command} }, 'SELECT true', 'SELECT NULL::bool', q{SELECT 'a', false, 'b'}, q{SELECT 'x'::text, true, NULL::text FROM source} ];
$texts{on_success} = $texts{on_failure} = $texts{command};
$texts{dag_id} = $texts{asis_dag} = $texts{tobe_dag} = $texts{trigger_dag_id} = \@dags;
$texts{task_id} = \@tasks;
$texts{column_name} = [qw(at id v nope ctid)];

# as SQL
my %values = (
	'boolean' => [qw(true false NULL)],
	'integer' => [qw(0 1 2 3 10 -1 NULL 2147483647), '(-2147483648)'],
	'bigint' => [qw(0 1 2 3 5 8 13 20 30 50 80 -1 NULL 9223372036854775807), '(-9223372036854775808)', '(SELECT max(run_id) FROM flow.dag_run)',
		'(SELECT run_id FROM flow.dag_run ORDER BY run_id DESC OFFSET 3 LIMIT 1)', '(SELECT max(backfill_id) FROM flow.backfill)'],
	'double precision' => [qw(0 1 NULL), q{'NaN'}, q{'Infinity'}, q{'-Infinity'}],
	'date' => [map { "'$_'" } qw(2024-05-28 2024-05-30 2024-06-01 2024-06-03 2024-02-29 infinity -infinity 9999-12-31 5874897-12-31 0001-01-01), '4713-11-24 BC', '0044-03-15 BC'],
	'interval' => [map { "'$_'" } '0', '1 second', '1 day', '1 hour', '-1 day', '1 month', '178000000 years', '-178000000 years', '2147483647 days', '2562047788 hours',
		'1 mon -30 days', '0.000001 s', '100 years'],
	'tstzrange' => [map { "'$_'" } 'empty', '(,)', '[2024-05-28,2024-06-01)', '[2024-05-28,)', '(,2024-05-28]', '[-infinity,infinity]', '[2024-05-28,2024-05-28]',
		'(2024-05-28,2024-05-29]', '["4713-11-24 BC",294276-12-31]'],
	'regrole' => [map { "'$_'" } qw(fuzz_user fuzz_other fuzz_nologin postgres 0 4294967295 pg_monitor)],
	'integer[]' => [map { "'$_'" } '{}', '{0,1}', '{1,0}', '{0,1,2}', '{1,2,0}', '{NULL}', '{{0,1},{1,0}}', '[5:6]={0,1}', '[-2147483648:-2147483647]={0,1}', '{-1}',
		'{2147483647}', '{99}'],
	'text[]' => [map { "'$_'" } '{}', '{s}', '{s,u}', '{u,v}', '{id}', '{at}', '{at,id}', '{s,s}', '{NULL}', '{{s,u},{k,p}}', '[7:8]={s,u}',
		'[2147483646:2147483647]={s,u}', '{""}', '{nope}', '{"a b","c\"d"}', '{ctid}', '{tableoid}'],
	'jsonb' => [map { "'$_'" } '{}', 'null', '[]', '1', '"a"', '{"a": 1}', '{"id": 5, "at": "2024-05-02"}', '{"at": "2024-05-02"}', '{"at": null}', '{"id": 1e400}', '{"at": {}}',
		'{"a": {"b": [1, [2, {"c": "\u00e9"}]]}}', '{"": ""}', '-1e-1000']);
$values{'timestamp without time zone'} = [ @{ $values{date} }, map { "'$_'" } '2024-03-10 02:30', '2024-11-03 01:30', '294276-12-31 23:59:59.999999', '2024-05-31 12:34:56.789' ];
$values{'timestamp with time zone'} = $values{'timestamp without time zone'};
push @{ $values{jsonb} }, q{(repeat('[', 3000) || repeat(']', 3000))::jsonb}, q{('{"a":"' || repeat('x', 200000) || '"}')::jsonb};
push @{ $values{'text[]'} }, q{array_fill('s'::text, '{2000}')}, q{ARRAY['😀', 'é', E'\t']};
$values{'timestamp with time zone'} = [ grep { !/5874897/ } @{ $values{'timestamp with time zone'} } ];
$values{'timestamp without time zone'} = [ grep { !/5874897/ } @{ $values{'timestamp without time zone'} } ];

sub pick { return $_[ int rand @_ ]; }
sub percent { return rand(100) < $_[0]; }

sub quoted
{
	my ($text) = @_;

	$text =~ s/([\\'])/\\$1/g;
	$text =~ s/\n/\\n/g;
	return "E'$text'";
}

# A few characters changed, or a piece of another text put in.
sub mutated
{
	my ($text, @others) = @_;

	foreach (0 .. int rand 3)
	{
		my $at = int rand(1 + length $text);
		my $kind = int rand 4;

		if ($kind == 0) { substr($text, $at, 1 + int rand 4) = '' if $at < length $text; }
		elsif ($kind == 1) { substr($text, $at, 0) = pick(@nasty_texts[ 1 .. 15 ], 0 .. 9, ',', '*', '-', '(', ')', '@'); }
		elsif ($kind == 2) { substr($text, $at, 0) = substr(pick(@others), 0, 1 + int rand 20); }
		else { $text .= pick(' ', ',', ';', '.', ';SELECT 1', '--'); }
	}
	return $text;
}

sub text_for
{
	my ($name) = @_;
	my $good = $texts{$name};

	return pick(@nasty_texts) if !defined $good || percent(8);
	return mutated(pick(@$good), @$good) if percent(15);
	return pick(@$good);
}

sub value_for
{
	my ($name, $type) = @_;

	return 'NULL' if percent(4);
	return quoted(text_for($name)) if $type eq 'text';
	return defined $values{$type} ? pick(@{ $values{$type} }) . "::$type" : 'NULL';
}

# ------------------------------------------------------------------------
# Statements

sub read_function
{
	my ($line) = @_;
	my $function = JSON::PP->new->decode($line);
	my $n = @{ $function->{arguments} };
	my $i = 0;

	$_->[2] = $i++ >= $n - $function->{ndefaults} foreach @{ $function->{arguments} };
	return $function;
}

sub call_of
{
	my ($function) = @_;
	my $odd = pick(10, 25, 60);
	my $list = join ', ', map { ($_->[0] // 'x') . ' => ' . value_for(@$_) }
	  grep { $_->[2] ? percent($odd) : percent(98) } @{ $function->{arguments} };

	# how long it waits is its own affair
	$list =~ s/, timeout => .*//s if $function->{name} =~ /flow_wait/;
	$list .= ", timeout => '0.2 s'" if $function->{name} =~ /flow_wait/ && $list ne '';
	$list =~ s/until => .*/until => flow.clock_now() + interval '1 hour'/s if $function->{name} =~ /flow_advance/;
	return ($function->{kind} eq 'p' ? 'CALL ' : 'SELECT * FROM ') . "$function->{name}($list)";
}

# Arguments that are right but for one.
sub mutated_call
{
	my ($line) = @_;

	$line =~ s/'([^']*)'/percent(25) ? quoted(mutated($1, @{ $texts{command} })) : "'$1'"/ge;
	return $line;
}

sub mutated_tree
{
	my ($tree, $depth) = @_;

	return pick(undef, '', 0, -1, 1e300, [], {}, 'x' x 300, JSON::PP::true(), JSON::PP::false(), [ [] ], { a => { b => [] } }, text_for(pick(keys %texts)))
	  if percent($depth == 0 ? 2 : 4);
	if (ref $tree eq 'HASH')
	{
		my %copy = map { percent(2) ? () : ($_ => mutated_tree($tree->{$_}, $depth + 1)) } sort keys %$tree;

		foreach my $key (keys %copy)
		{
			$copy{$key} = text_for($key) if $texts{$key} && !ref $copy{$key} && percent(15);
		}
		$copy{ pick(keys %texts, @nasty_texts, 'tasks', 'asis_dags', 'tags', 'retries', 'page_size', 'poke_interval') } = pick(map { mutated_tree($_, $depth + 1) } values %$tree)
		  if percent(10) && %$tree;
		return \%copy;
	}
	if (ref $tree eq 'ARRAY')
	{
		my @copy = map { (mutated_tree($_, $depth + 1)) x pick(1, 1, 1, 1, 1, 1, 1, 1, 0, 2) } @$tree;

		return \@copy;
	}
	return $tree;
}

my @valid_calls = grep { /^SELECT flow_(add|create)/ } split /;\n/, $set_up;

sub statement
{
	my $kind = int rand 100;

	return call_of(pick(@functions)) if $kind < 55;
	return mutated_call(pick(@valid_calls)) if $kind < 68;
	return 'SELECT flow_apply(' . quoted(JSON::PP->new->canonical->allow_nonref->encode(mutated_tree(pick(@documents), 0))) . ')' if $kind < 82;
	return 'SELECT flow_apply(flow_export(' . quoted(text_for('dag_id')) . '))' if $kind < 84;
	return 'SELECT * FROM ' . pick(@views) if $kind < 89;
	return 'SELECT flow_trigger(' . quoted(pick(@dags)) . ', ' . value_for('logical_date', 'timestamp without time zone') . ', ' . value_for('conf', 'jsonb') . ')' if $kind < 93;
	return 'INSERT INTO flow.dependency_manager (asis_dag, tobe_dag) VALUES (' . value_for('asis_dag', 'text') . ', ' . value_for('tobe_dag', 'text') . ')' if $kind < 95;
	return 'INSERT INTO flow.dag_log (dag_id, completion_date) VALUES (' . value_for('asis_dag', 'text') . ', ' . value_for('x', 'date') . ')' if $kind < 97;
	return pick('DELETE FROM flow.dependency_manager', 'TRUNCATE flow.dependency_manager', 'DELETE FROM flow.dag_log', 'UPDATE flow.dag_log SET completion_date = completion_date + 1',
		'UPDATE flow.dependency_manager SET asis_dag = tobe_dag', q{UPDATE flow.dependency_manager SET asis_dag = 'outside'});
}

# A script of one session: statements alone, and a few in a transaction.
sub script
{
	my ($role, $n) = @_;
	my @lines = ("SET SESSION AUTHORIZATION $role");

	while (@lines < $n)
	{
		if (percent(12))
		{
			push @lines, 'BEGIN';
			foreach (0 .. int rand 6)
			{
				push @lines, 'SAVEPOINT s' if percent(40);
				push @lines, statement();
				push @lines, pick('ROLLBACK TO s', 'RELEASE s') if percent(30);
			}
			push @lines, pick('COMMIT', 'COMMIT', 'ROLLBACK');
		}
		else
		{
			my $statement = statement();

			# one that waits does not hold up the others
			if ($statement =~ /flow_(wait|advance)/)
			{
				push @lines, q{SET statement_timeout = '1s'}, $statement, 'RESET statement_timeout';
			}
			else
			{
				push @lines, $statement;
			}
		}
	}
	return @lines;
}

# ------------------------------------------------------------------------
# Rounds

my %states;       # how often a statement ended so
my @found;

# Told at once, for the server may be gone before the end.
sub put_found
{
	my ($text) = @_;

	push @found, $text;
	note(substr encode_utf8("found: $text"), 0, 1500);
	return;
}

sub start_script
{
	my ($name, @lines) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . "/$name.sql";
	my $run = { name => $name, lines => \@lines, stderr => '' };

	tr/\n/ / foreach @lines;
	open my $fh, '>', $file or die;
	print $fh encode_utf8(join(";\n", @lines) . ";\n");
	close $fh;
	$run->{harness} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'), '-f', $file ],
		'>', '/dev/null', '2>', \$run->{stderr}, '<', '/dev/null');
	return $run;
}

sub end_script
{
	my ($run) = @_;
	my $is_right = eval { $run->{harness}->finish; 1 };
	my $lines = $run->{lines};

	while ($run->{stderr} =~ /^psql:\S+?:(\d+): (?:ERROR|FATAL):  (\w{5}): (.*(?:\n(?!psql:).*)*)/mg)
	{
		my ($line, $state, $message) = ($1, $2, $3);
		my $statement = $lines->[ $line - 1 ];

		$states{$state}++;
		next if $state !~ /^(XX|57|40P|58|53|F0|26)/;
		# those that wait, and those that were asked for all intervals of all years
		next if $state eq '57014' && $statement =~ /flow_(wait|advance|due_runs|next_runs|backfill|preview_backfill)/;
		# a task that was asked to end the session
		next if $state eq '57P01' && $statement =~ /flow_test_task/;
		put_found("$state: $statement\n$message");
	}
	put_found("$run->{name} did not end: $run->{stderr}") unless $is_right;
	put_found("$run->{name} was cut off after: " . ($run->{stderr} =~ s/.*(?=(?:.*\n){6}\z)//sr))
	  if $run->{stderr} =~ /connection to server was lost|server closed the connection/
	  && $run->{stderr} !~ /57P01/;
	return;
}

# What background processes, and nobody else, complained about.
my $log_at = 0;

sub look_at_log
{
	my $log = slurp_file($node->logfile, $log_at);

	$log_at = -s $node->logfile;
	my @lines = split /\n(?=\d{4}-)/, $log;

	foreach my $i (0 .. $#lines)
	{
		my $line = $lines[$i];

		# TRUNCATE of dependency_manager waits for who reads it, and all for that
		next if $line =~ /\] 55P03 flowpg scheduler / && ($lines[ $i + 1 ] // '') =~ /QUERY:.*flow\.dependency_manager/s;
		# with what follows about it
		put_found(join "\n", grep { defined } @lines[ $i .. $i + 2 ])
		  if $line =~ /\] XX\w{3} |PANIC:|TRAP:|terminated by signal|exited with exit code [^01]|leak|\] \w{5} flowpg (launcher|scheduler) .*(ERROR|FATAL):/
		  && $line !~ /STATEMENT:|terminating flowpg|terminating background worker/;
	}
	return;
}

my $pid = scheduler_pid($node);
my $until = time + $seconds;
my $round = 0;

while ($round < $nrounds || time < $until)
{
	my @runs = map { start_script("${_}_$round", script($_, $nstatements)) } 'postgres', 'fuzz_user';

	end_script($_) foreach @runs;
	look_at_log();

	# what has been dropped or given away comes back
	my $again = $set_up;
	my @back = map { "SELECT flow_set_owner(" . quoted($_) . ", '" . ($_ eq 'other' ? 'postgres' : 'fuzz_user') . "')" } @dags;
	end_script(start_script("again_$round", "SELECT flow_grant('fuzz_user')", @back, (grep { /\S/ } split /;\n/, $again)));

	# The clock jumps, seldom back; not to where DAGs that wait for others would
	# have millions of runs due.
	my $now = percent(80) ? "'2024-06-01'::timestamptz + " . int(rand 60 * ($round + 1)) . " * interval '1 hour'"
	  : pick(q{'0001-01-01'::timestamptz}, q{'2024-03-10 07:00+00'::timestamptz}, q{'1970-01-01'::timestamptz});
	$node->safe_psql('postgres', "SELECT flow_pause(dag_id) FROM flow.dag WHERE schedule IS NOT NULL") if percent(30);
	set_now($node, $node->safe_psql('postgres', "SELECT ($now)::text"));
	$round++;
	note sprintf('round %d, %d found', $round, scalar @found) if $round % 10 == 0;
	last if @found > 50;
}

note "$round rounds, seed $seed: " . join(' ', map { "$_=$states{$_}" } sort keys %states);

# ------------------------------------------------------------------------
# Afterwards

set_now($node, '2024-07-01 00:00:00+00');
# some end by themselves meanwhile
$node->safe_psql('postgres', q{
SELECT flow_pause(dag_id) FROM flow.dag;
DO $$
DECLARE
	id bigint;
BEGIN
	FOR id IN SELECT backfill_id FROM flow.backfill WHERE ended_at IS NULL LOOP
		BEGIN
			PERFORM flow_cancel_backfill(id);
		EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
		END;
	END LOOP;
	FOR id IN SELECT run_id FROM flow.dag_run WHERE state IN ('queued', 'running') LOOP
		BEGIN
			PERFORM flow_cancel_run(id);
		EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
		END;
	END LOOP;
END $$;
});
wait_for($node, q{SELECT count(*) = 0 FROM flow.dag_run WHERE state IN ('queued', 'running')}, 'all runs to end when they are cancelled');
wait_for($node, q{SELECT count(*) = 0 FROM flow.backfill WHERE ended_at IS NULL}, 'all backfills to end when they are cancelled');
wait_for($node, q{SELECT (active_runs, ready_tasks, running_tasks) = (0, 0, 0) FROM flow.scheduler_status}, 'the scheduler to have no more in memory than is in the tables');
is($node->safe_psql('postgres', q{SELECT count(*) FROM flow.request}), '0', 'no request is left');
is($node->safe_psql('postgres', q{
SELECT count(*) FROM flow.task_run t JOIN flow.dag_run r USING (run_id)
WHERE t.state IN ('queued', 'running', 'up_for_retry', 'up_for_reschedule')}), '0', 'no task is left open in a run that has ended');
is(scheduler_pid($node), $pid, 'the scheduler is the one from the beginning');
is($node->safe_psql('postgres', 'SELECT problem FROM flow.scheduler_status'), '', 'and has no problem');

$node->safe_psql('postgres', q{SELECT flow_create_pool('default', 128); SELECT flow_create_dag('afterwards'); SELECT flow_add_sql('afterwards', 'a', 'SELECT 1')});
is(wait_for_run($node, trigger($node, 'afterwards')), 'success', 'a run is like any other');

# what is in the tables can be read
signal_process('TERM', $pid);
wait_for_scheduler($node, not_pid => $pid);
is(wait_for_run($node, trigger($node, 'afterwards')), 'success', 'and again with another scheduler');
look_at_log();

is(scalar @found, 0, 'nothing else than errors of the caller') or diag(join "\n\n", map { substr encode_utf8("$_"), 0, 1500 } @found);
$node->stop;

done_testing();
