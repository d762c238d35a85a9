
=pod

=head1 NAME

FlowpgMariadb - a MariaDB server as a legacy system, for TAP tests

=head1 SYNOPSIS

  plan skip_all => $reason if my $reason = FlowpgMariadb::missing();
  my $mariadb = FlowpgMariadb->new('legacy');
  $mariadb->sql('CREATE TABLE legacy.t (id int PRIMARY KEY)');
  $node->safe_psql('postgres', $mariadb->server_sql('mariadb'));

=head1 DESCRIPTION

A server of the current user in the test's own directory, reached by a unix
socket and, since mysql_fdw knows nothing else, by a port of the loopback.  It is
stopped when the test ends, however it does.  Its general log has the statements
that arrive.

=cut

package FlowpgMariadb;

use strict;
use warnings;

use Carp;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time usleep);

my @servers;

=pod

=over

=item FlowpgMariadb::missing()

What this machine lacks for it, as a sentence; undef if it has all.

=cut

sub missing
{
	my $libdir = qx{pg_config --pkglibdir};

	chomp $libdir;
	return 'mysql_fdw is not there for this PostgreSQL'
	  unless -f "$libdir/mysql_fdw.so";
	foreach my $program ('mariadbd', 'mariadb-install-db', 'mariadb')
	{
		return "$program is not there" unless program($program);
	}
	return undef;
}

sub program
{
	my ($name) = @_;

	foreach my $directory (split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/bin')
	{
		return "$directory/$name" if -x "$directory/$name";
	}
	return undef;
}

=pod

=item FlowpgMariadb->new($name, @options)

Starts a server with a database "legacy", which user "etl" with password "etl"
may do anything with.  Options are those of mariadbd.

=cut

sub new
{
	my ($class, $name, @options) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir("mariadb_$name");
	my $self = bless {
		name    => $name,
		dir     => $dir,
		socket  => PostgreSQL::Test::Utils::tempdir_short() . '/m',
		port    => PostgreSQL::Test::Cluster::get_free_port(),
		options => \@options,
		errors  => "$PostgreSQL::Test::Utils::log_path/mariadb_$name.log",
	}, $class;

	IPC::Run::run(
		[
			program('mariadb-install-db'), '--no-defaults', "--datadir=$dir/data",
			'--auth-root-authentication-method=normal',
			'--skip-test-db', '--skip-name-resolve'
		],
		'>', $self->{errors}, '2>&1') or croak "mariadb-install-db has failed, see $self->{errors}";
	push @servers, $self;
	$self->start;
	$self->sql(q{
CREATE USER etl@127.0.0.1 IDENTIFIED BY 'etl';
CREATE DATABASE legacy;
GRANT ALL ON legacy.* TO etl@127.0.0.1;
});
	return $self;
}

=pod

=item $mariadb->start, $mariadb->stop, $mariadb->kill

=cut

sub start
{
	my ($self) = @_;
	my $since = time;

	$self->{process} = IPC::Run::start(
		[
			program('mariadbd'), '--no-defaults',
			"--datadir=$self->{dir}/data", "--socket=$self->{socket}",
			"--port=$self->{port}", '--bind-address=127.0.0.1',
			"--pid-file=$self->{dir}/pid", '--skip-name-resolve',
			'--general-log', "--general-log-file=$self->{dir}/general.log",
			'--innodb-flush-log-at-trx-commit=0', '--skip-innodb-doublewrite',
			'--character-set-server=utf8mb4', @{ $self->{options} }
		],
		'<', '/dev/null', '>>', $self->{errors}, '2>&1');
	until ($self->answers)
	{
		croak "MariaDB does not start, see $self->{errors}"
		  if time - $since > $PostgreSQL::Test::Utils::timeout_default
		  || !$self->{process}->pumpable;
		usleep(20_000);
	}
	return;
}

sub answers
{
	my ($self) = @_;

	return IPC::Run::run([ $self->client, '-e', 'SELECT 1' ],
		'<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
}

sub stop
{
	my ($self) = @_;

	return $self->end('TERM');
}

sub kill
{
	my ($self) = @_;

	return $self->end('KILL');
}

sub end
{
	my ($self, $signal) = @_;

	return unless $self->{process};
	$self->{process}->signal($signal);
	eval { $self->{process}->finish };
	$self->{process} = undef;
	return;
}

=pod

=item $mariadb->sql($sql)

Runs statements as root in database "legacy", if that is there; what they yield,
columns separated by tabs.

=cut

sub client
{
	my ($self) = @_;

	return (program('mariadb'), '--no-defaults', '-N', '-B', '-u', 'root',
		'--default-character-set=utf8mb4', '-S', $self->{socket});
}

sub sql
{
	my ($self, $sql) = @_;
	my ($out, $err);
	my $has_database = -d "$self->{dir}/data/legacy";

	IPC::Run::run([ $self->client, $has_database ? ('-D', 'legacy') : () ],
		'<', \$sql, '>', \$out, '2>', \$err)
	  or croak "MariaDB: $err";
	chomp $out;
	return $out;
}

=pod

=item $mariadb->server_sql($server, $options)

SQL that makes a foreign server of it, and a user mapping for PUBLIC.

=cut

sub server_sql
{
	my ($self, $server, $options) = @_;

	return qq{
CREATE EXTENSION IF NOT EXISTS mysql_fdw;
CREATE SERVER $server FOREIGN DATA WRAPPER mysql_fdw
	OPTIONS (host '127.0.0.1', port '$self->{port}', character_set 'utf8mb4', fetch_size '1000');
CREATE USER MAPPING FOR PUBLIC SERVER $server OPTIONS (username 'etl', password 'etl');
};
}

=pod

=item $mariadb->log_end

=item $mariadb->statements($from)

How long the general log is; the SELECT, INSERT, UPDATE and DELETE statements
that have been executed since then.

=cut

sub log_end
{
	my ($self) = @_;

	return -s "$self->{dir}/general.log";
}

sub statements
{
	my ($self, $from) = @_;
	my $log = slurp_file("$self->{dir}/general.log", $from);

	return $log =~ /Execute\t((?:SELECT|INSERT|UPDATE|DELETE|REPLACE)\b.*)$/mg;
}

END
{
	my $status = $?;

	$_->stop foreach @servers;
	$? = $status;
}

=pod

=back

=cut

1;
