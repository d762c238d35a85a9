# The README tells of every function, setting, table and view that there is,
# and of none that there is not.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# A server without settings of its own, so that the defaults can be compared.
my $node = PostgreSQL::Test::Cluster->new('readme');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'flowpg'\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION flowpg');

my @lines = split /\n/, slurp_file("$FindBin::Bin/../../README.md");

# The text below a heading, up to the next one of its level or above.
sub section
{
	my ($heading) = @_;
	my ($level) = $heading =~ /^(#+)/;
	my $length = length $level;
	my ($in_code, $in_section, @found);

	foreach my $line (@lines)
	{
		$in_code = !$in_code if $line =~ /^```/;
		if (!$in_code && $line =~ /^#{1,$length} /)
		{
			last if $in_section;
			$in_section = $line eq $heading;
			next;
		}
		push @found, $line if $in_section;
	}
	return join "\n", @found;
}

# The rows of the first table of a section whose head begins so: the cells.
sub table_rows
{
	my ($heading, $head) = @_;
	my (@rows, $in_table);

	foreach my $line (split /\n/, section($heading))
	{
		if ($line =~ /^\| \Q$head\E \|/)
		{
			$in_table = 1;
			next;
		}
		next unless $in_table;
		last unless $line =~ /^\|/;
		next if $line =~ /^\| ---/;
		my @cells = split / *(?<!\\)\| */, $line, -1;
		push @rows, [ @cells[ 1 .. $#cells - 1 ] ];
	}
	return @rows;
}

# Names in backquotes that a cell begins with.
sub names
{
	my ($cell) = @_;

	return $cell =~ /`(\w+)`/g;
}

sub query_lines
{
	my ($query) = @_;

	return split /\n/, $node->safe_psql('postgres', $query);
}

# Functions -----------------------------------------------------------------

my %signatures = map { split /\|/, $_, 2 } query_lines(q{
	SELECT p.proname, array_to_string(ARRAY(SELECT a.name
		FROM unnest(p.proargnames, coalesce(p.proargmodes, array_fill('i'::"char", ARRAY[p.pronargs])))
			WITH ORDINALITY AS a (name, mode, n)
		WHERE a.mode IN ('i', 'b') ORDER BY a.n), ' ')
	FROM pg_depend d
		JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
		JOIN pg_proc p ON p.oid = d.objid AND d.classid = 'pg_proc'::regclass
	WHERE e.extname = 'flowpg' AND d.deptype = 'e' AND p.proname LIKE 'flow\_%'
		AND p.pronamespace <> 'flow'::regnamespace});
my @documented = map { /^### (flow_\w+)$/ ? $1 : () } @lines;
is(join(' ', sort @documented), join(' ', sort keys %signatures),
	'every function has a section, and every section a function');

# The first code of the section is the signature; it may leave arguments to
# that of another function.
sub documented_arguments
{
	my ($function) = @_;
	my ($signature) = section("### $function") =~ /```\n(.*?)\n```/s
	  or return '';

	return documented_arguments($1)
	  if $signature =~ /\(the same arguments as (\w+)/;
	my ($arguments) = $signature =~ /\((.*?)\)(?:\s+returns |$)/s
	  or return '';
	$arguments =~ s/\s*=\s*('[^']*'|\w+)//g;
	my @arguments;
	foreach my $argument (split /,\s*/, $arguments)
	{
		push @arguments, $argument =~ /^<the common arguments/
		  ? (split / /, (split / in_transaction /, documented_arguments('flow_add_sql'))[1])
		  : (split / /, $argument)[0];
	}
	return join ' ', @arguments;
}

foreach my $function (sort keys %signatures)
{
	is(documented_arguments($function), $signatures{$function}, "the arguments of $function");
}

# Settings ------------------------------------------------------------------

my %settings = map { split /\|/, $_, 2 } query_lines(q{
	SELECT name, current_setting(name) FROM pg_settings WHERE name LIKE 'flowpg.%'});
my %defaults =
  map { (($_->[0] =~ /`([\w.]+)`/)[0], $_->[1] eq 'empty' ? '' : $_->[1]) } table_rows('## Settings', 'setting');
is_deeply(\%defaults, \%settings, 'the settings and their defaults');

my %contexts = map { split /\|/, $_, 2 } query_lines(q{
	SELECT name, CASE context WHEN 'postmaster' THEN 'server start' WHEN 'sighup' THEN 'reload' WHEN 'user' THEN 'in the session' END
	FROM pg_settings WHERE name LIKE 'flowpg.%'});
foreach my $row (table_rows('## Settings', 'setting'))
{
	my ($name) = $row->[0] =~ /`([\w.]+)`/;

	like($row->[2], qr/^$contexts{$name}\b/, "when a change of $name takes effect");
}

# Tables and views --------------------------------------------------------------

foreach my $kind ([ 'Tables', 'table', 'r' ], [ 'Views', 'view', 'v' ])
{
	my ($heading, $head, $relkind) = @$kind;
	my @there = query_lines(
		"SELECT relname FROM pg_class WHERE relnamespace = 'flow'::regnamespace AND relkind = '$relkind'");
	my @rows = table_rows("## $heading", $head);

	is(join(' ', sort map { names($_->[0]) } @rows), join(' ', sort @there), "the ${head}s");
}
foreach my $row (table_rows('## Views', 'view'))
{
	my ($view) = names($row->[0]);
	my @missing = grep { $row->[2] !~ /\b$_\b/ } query_lines(
		"SELECT attname FROM pg_attribute WHERE attrelid = 'flow.$view'::regclass AND attnum > 0");

	is("@missing", '', "the columns of the view $view");
}

# Kinds of tasks, values of a run -------------------------------------------------

my (undef, undef, $complaint) =
  $node->psql('postgres', q{SELECT flow.trigger_rule_decide('none', 1)});
my ($rules) = $complaint =~ /The rules are (.*)\./;
is( join(' ', sort map { names($_->[0]) } table_rows('### Trigger rules', 'trigger_rule')),
	join(' ', sort split /, | and /, $rules),
	'the trigger rules');
is( join(' ', sort map { $_->[0] =~ /`run\.(\w+)`/g } table_rows('## Values of a run in SQL', 'value')),
	$node->safe_psql('postgres', q{
		SELECT string_agg(name, ' ' ORDER BY name COLLATE "C")
		FROM pg_proc, unnest(proargnames) AS name WHERE proname = 'flow_context'}),
	'the values of a run');

# Links ---------------------------------------------------------------------------

my %anchors;
my $in_code;
foreach my $line (@lines)
{
	$in_code = !$in_code if $line =~ /^```/;
	next unless !$in_code && $line =~ /^#+ (.*)/;
	my $anchor = lc $1;
	$anchor =~ s/[^\w -]//g;
	$anchor =~ s/ /-/g;
	$anchors{$anchor} = 1;
}
my @dead = grep { !$anchors{$_} } join("\n", @lines) =~ /\]\(#([^)]+)\)/g;
is("@dead", '', 'links lead to headings');

$node->stop;
done_testing();
