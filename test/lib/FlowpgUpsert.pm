
=pod

=head1 NAME

FlowpgUpsert - what TAP tests of upserts share

=cut

package FlowpgUpsert;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

our @EXPORT = qw(upsert run_upsert progress task_message difference);

=pod

=over

=item upsert($node, $dag_id, $arguments, $dag_arguments)

Defines a DAG of one upsert, task "load", with the arguments of flow_add_upsert
that follow task_id, as SQL.

=item run_upsert($node, $dag_id, %options)

Runs it as trigger() does; what progress() says of it.

=item progress($node, $run_id)

"state pages rows_written" of a run's only task.

=item task_message($node, $run_id)

"SQLSTATE message" of it; what is not there is left out.

=item difference($node, $source, $target)

What differs between two queries, as rows; empty if nothing does.

=cut

sub upsert
{
	my ($node, $dag_id, $arguments, $dag_arguments) = @_;

	return define($node, "SELECT flow_create_dag('$dag_id', NULL"
		  . ($dag_arguments ? ", $dag_arguments" : '')
		  . "); SELECT flow_add_upsert('$dag_id', 'load', $arguments)");
}

sub run_upsert
{
	my ($node, $dag_id, %options) = @_;
	my $run = trigger($node, $dag_id, %options);

	patiently { wait_for_run($node, $run) };
	return progress($node, $run);
}

sub progress
{
	my ($node, $run) = @_;

	return value($node, "SELECT concat_ws(' ', state, pages, rows_written)
		FROM flow.task_run WHERE run_id = $run");
}

sub task_message
{
	my ($node, $run) = @_;

	return value($node, "SELECT concat_ws(' ', sqlstate, message)
		FROM flow.task_run WHERE run_id = $run");
}

sub difference
{
	my ($node, $source, $target) = @_;

	return value($node, "(($source) EXCEPT ALL ($target))
		UNION ALL (($target) EXCEPT ALL ($source))");
}

=pod

=back

=cut

1;
