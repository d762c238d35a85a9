
# Three years of hourly runs in three timezones, made up for in one go; then in
# time through the next changes of the clocks.  Lord Howe Island moves its clocks by
# half an hour.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my @zones = qw(America/New_York Australia/Lord_Howe Europe/Berlin);

# New Year in New York: three years have passed everywhere.
my $node = new_node(
	'catchup', conf => q{
flowpg.simulated_now = '2024-01-01 05:00:00+00'
flowpg.max_workers = 4
});

# The ticks of a zone's clock on the hour, without flowpg: the instants at which
# it shows a full hour, and those full hours that it jumps over, moved by the jump.
$node->safe_psql('postgres', q{
CREATE FUNCTION expected_run(zone text, since timestamp, until timestamptz,
	OUT data_interval_start timestamptz, OUT data_interval_end timestamptz) RETURNS SETOF record
LANGUAGE sql AS $$
	SELECT * FROM (
		SELECT t, lead(t) OVER (ORDER BY t)
		FROM (
			SELECT t FROM generate_series(since AT TIME ZONE zone, until, '30 minutes') t
			WHERE extract(minute FROM t AT TIME ZONE zone) = 0
			UNION
			SELECT l AT TIME ZONE zone FROM generate_series(since, until AT TIME ZONE zone, '1 hour') l) ticks
		WHERE t <= until) i (s, e)
	WHERE e IS NOT NULL
$$;
});

# How the runs of a zone differ from what they should be: "3 missing, 0 more".
sub differences
{
	my ($zone, $until) = @_;

	return value($node, qq{
WITH made AS (SELECT data_interval_start, data_interval_end FROM flow.dag_run WHERE dag_id = '$zone'),
	expected AS (SELECT * FROM expected_run('$zone', '2021-01-01', '$until'))
SELECT (SELECT count(*) FROM (SELECT * FROM expected EXCEPT ALL SELECT * FROM made) d) || ' missing, '
	|| (SELECT count(*) FROM (SELECT * FROM made EXCEPT ALL SELECT * FROM expected) d) || ' more'});
}

# ------------------------------------------------------------------------
# Three years at once

define($node, join "\n", map { qq{
SELECT flow_create_dag('$_', '\@hourly', '2021-01-01', timezone => '$_', catchup => true);
SELECT flow_add_sql('$_', 'step', 'SELECT 1');
} } @zones);

# Polled, and not advanced to: a session that waits would hold a snapshot.
wait_for($node, q{
SELECT count(*) = 3 FROM flow.dag_progress JOIN flow.dag USING (dag_id)
WHERE last_end = '2024-01-01 05:00+00'
	AND NOT EXISTS (SELECT FROM flow.dag_run r WHERE r.dag_id = dag.dag_id AND ended_at IS NULL)}, 'three years of runs');

# A New Year that has begun earlier lets more hours be over by then.
my $three_years = 3 * 365 * 24;
my %runs = (
	'America/New_York' => $three_years,
	'Europe/Berlin' => $three_years + 6,
	'Australia/Lord_Howe' => $three_years + 16);
foreach my $zone (@zones)
{
	my $of = "FROM flow.dag_run WHERE dag_id = '$zone'";

	is(value($node, "SELECT count(*), count(DISTINCT logical_date), min(state), max(state), min(run_type), max(run_type) $of"),
		"$runs{$zone}|$runs{$zone}|success|success|scheduled|scheduled", "$zone: three years of hours, none twice");
	is(value($node, "SELECT count(*) FROM flow.task_run WHERE dag_id = '$zone' AND state = 'success' AND try_number = 1"), $runs{$zone},
		"$zone: each has run once");
	is(value($node, "SELECT count(*) FROM (SELECT data_interval_start <> lag(data_interval_end) OVER (ORDER BY logical_date) AS is_gap $of) s WHERE is_gap"), '0',
		"$zone: the intervals are contiguous");
	is(value($node, "SELECT count(*) FROM (SELECT run_id < lag(run_id) OVER (ORDER BY logical_date) AS is_early $of) s WHERE is_early"), '0',
		"$zone: oldest first");
	is(differences($zone, '2024-01-01 05:00+00'), '0 missing, 0 more', "$zone: the hours of its clock");
	is(value($node, "SELECT covered = tstzmultirange(tstzrange(timestamp '2021-01-01' AT TIME ZONE '$zone', '2024-01-01 05:00+00')) FROM flow.coverage WHERE dag_id = '$zone'"),
		't', "$zone: what has succeeded is one range");
}
is(value($node, q{SELECT dag_id, string_agg(length || ': ' || n, ', ' ORDER BY length)
	FROM (SELECT dag_id, data_interval_end - data_interval_start AS length, count(*) AS n FROM flow.dag_run GROUP BY 1, 2) l WHERE dag_id <> 'Australia/Lord_Howe' GROUP BY 1 ORDER BY 1}),
	"America/New_York|01:00:00: 26280\nEurope/Berlin|01:00:00: 26286", 'where clocks move by an hour, each interval is one');
is(value($node, q{SELECT length, n FROM (SELECT data_interval_end - data_interval_start AS length, count(*) AS n FROM flow.dag_run WHERE dag_id = 'Australia/Lord_Howe' GROUP BY 1) l
	WHERE length <> '1 hour' ORDER BY 1}),
	"00:30:00|3\n01:30:00|3", 'where they move by half an hour, one a year is shorter and one longer');

# ------------------------------------------------------------------------
# In time: week by week, and half hour by half hour where clocks change

$node->safe_psql('postgres', q{
CREATE TABLE seen (dag_id text, run_id bigint, interval_end timestamptz, at timestamptz);
});
define($node, join "\n", map { qq{
SELECT flow_add_sql('$_', 'step', 'INSERT INTO seen VALUES (run.dag_id, run.run_id, run.data_interval_end, flow.clock_now())');
} } @zones);

# The weekends of 2024 on which one of the clocks changes.
my $changes = '{2024-03-10,2024-03-31,2024-04-06,2024-10-05,2024-10-27,2024-11-03}';
$node->safe_psql('postgres', join "\n", map { "SELECT flow_advance('$_');" } split /\n/, value($node, qq{
SELECT t FROM (
	SELECT generate_series(timestamptz '2024-01-02 00:00+00', '2024-12-31 00:00+00', '7 days')
	UNION
	SELECT c + h * interval '30 minutes' FROM unnest('$changes'::timestamptz[]) c, generate_series(0, 48) h) s (t)
ORDER BY t}));
is(differences($_, '2024-12-31 00:00+00'), '0 missing, 0 more', "$_: so does the next year, in time") foreach @zones;
is(value($node, q{SELECT count(*) FROM flow.dag_run WHERE state <> 'success'}), '0', 'all have succeeded');
is(value($node, q{SELECT count(*), count(DISTINCT run_id) FROM seen}), value($node, q{SELECT count(*), count(*) FROM flow.dag_run WHERE data_interval_end > '2024-01-01 05:00+00'}),
	'each once');
is(value($node, q{SELECT count(*) FROM seen WHERE at < interval_end}), '0', 'none before its hour was over');
is(value($node, qq{SELECT count(*) FROM seen WHERE interval_end::date = ANY ('$changes'::date[]) AND at <> interval_end}),
	'0', 'and on the days of the changes each as soon as it was');
is(value($node, q{SELECT count(*) >= 6 * 3 * 23 FROM seen WHERE at = interval_end}), 't', 'which are many');

$node->stop;
done_testing();
