
# What tasks try that are hostile: to rise above their owner, to catch flowpg's
# own SQL, to leave something for the next task; and what becomes of the DAGs
# of a role that loses rights.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $node = new_node(
	'rights', conf => q{
flowpg.simulated_now = '2024-01-05 00:00:00+00'
flowpg.max_workers = 8
max_worker_processes = 32
});

$node->safe_psql('postgres', q{
CREATE ROLE mate;
CREATE ROLE ann LOGIN IN ROLE mate;
CREATE ROLE bob LOGIN;
SELECT flow_grant('ann'), flow_grant('bob');
GRANT CREATE ON DATABASE postgres TO ann, bob;
});

# Where tasks say who they are.
value_as($node, 'ann', q{
CREATE SCHEMA app;
CREATE TABLE app.note (n serial, k text, v text);
GRANT ALL ON SCHEMA app TO PUBLIC;
GRANT ALL ON app.note, app.note_n_seq TO PUBLIC;
});

sub noted
{
	my ($key) = @_;

	return value($node, "SELECT string_agg(v, ', ' ORDER BY n) FROM app.note WHERE k = '$key'");
}

# "a=success b=failed 42501"
sub tasks_of
{
	my ($run) = @_;

	return value($node, "SELECT string_agg(concat_ws(' ', task_id || '=' || state, sqlstate), E'\\n' ORDER BY task_id) FROM flow.task_run WHERE run_id = $run");
}

sub first_line
{
	my ($run) = @_;

	return value($node, "SELECT split_part(message, E'\\n', 1) FROM flow.run_status WHERE run_id = $run");
}

# ------------------------------------------------------------------------
# Ways up

my @climbs = (
	[ 'commit in code', q{DO 'BEGIN COMMIT; END'}, '2D000' ],
	[ 'copy program', q{COPY app.note TO PROGRAM 'cat > /dev/null'}, '42501' ],
	[ 'event trigger', q{CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION app.nothing()}, '42501' ],
	[ 'in code', q{DO 'BEGIN SET ROLE postgres; END'}, '42501' ],
	[ 'in function', q{SELECT set_config('role', 'postgres', false)}, '42501' ],
	[ 'kill', q{SELECT pg_terminate_backend(pid) FROM flow.scheduler_status}, '42501' ],
	[ 'listen', q{LISTEN flowpg}, '0A000' ],
	[ 'load', q{LOAD '$libdir/../flowpg'}, '42501' ],
	[ 'read file', q{SELECT pg_read_file('PG_VERSION')}, '42501' ],
	[ 'records', q{UPDATE flow.task_run SET state = 'success'}, '42501' ],
	[ 'replica', q{SET session_replication_role = replica}, '42501' ],
	[ 'request', q{INSERT INTO flow.request (kind, requested_by, requested_at) VALUES ('dag', 'ann', now())}, '42501' ],
	[ 'sequence', q{SELECT nextval('flow.dag_run_run_id_seq')}, '42501' ],
	[ 'session', q{SET SESSION AUTHORIZATION postgres}, '42501' ],
	[ 'superuser', q{ALTER ROLE ann SUPERUSER}, '42501' ],
	[ 'trap', q{CREATE TRIGGER t AFTER UPDATE ON flow.task_run FOR EACH ROW EXECUTE FUNCTION app.nothing()}, '42501' ],
	[ 'trigger function', q{CREATE TRIGGER t BEFORE INSERT ON app.note FOR EACH ROW EXECUTE FUNCTION flow.dag_log_trigger()}, '42501' ],
);
my $climbs = join "\n", map { "SELECT flow_add_sql('climb', '$_->[0]', \$sql\$$_->[1]\$sql\$);" } @climbs;
value_as($node, 'ann', qq{
BEGIN;
SET flowpg.check_definitions = off;
CREATE FUNCTION app.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
SELECT flow_create_dag('climb');
$climbs
SELECT flow_add_sql('climb', 'zero', \$sql\$
	RESET SESSION AUTHORIZATION; RESET ROLE; SET SESSION AUTHORIZATION DEFAULT;
	INSERT INTO app.note (k, v) VALUES ('zero', concat_ws(' ', current_user, session_user, current_setting('is_superuser')))\$sql\$);
COMMIT;
});
my $run = value_as($node, 'ann', q{SELECT flow_trigger('climb')});
is(wait_for_run($node, $run), 'failed', 'a DAG that tries to rise fails');
is(tasks_of($run), join("\n", (map { "$_->[0]=failed $_->[2]" } @climbs), 'zero=success'), 'by none of these ways');
is(noted('zero'), 'ann ann off', 'going back leads to where it began');

# ------------------------------------------------------------------------
# All kinds of tasks, with code of the owner at every site that has any; and
# with operators in front of pg_catalog that catch whoever else uses them.

value_as($node, 'ann', q{
CREATE SCHEMA trap;
CREATE FUNCTION trap.spy(site text, value int) RETURNS int LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $$
BEGIN
	IF current_user <> 'ann' OR session_user <> 'ann' THEN
		RAISE 'rose to % of % by %', current_user, session_user, site;
	END IF;
	PERFORM nextval(format('trap.site_%s', site));
	RETURN value;
END $$;
SELECT format('CREATE SEQUENCE trap.site_%s', s) FROM unnest('{domain,computed,generated,checked,indexed,policy,before,deferred,viewed,callback,caught}'::text[]) s \gexec
CREATE DOMAIN trap.domain AS int CHECK (trap.spy('domain', VALUE) = VALUE);
CREATE TABLE trap.target (
	id int PRIMARY KEY CHECK (trap.spy('checked', id) = id),
	a trap.domain,
	b int DEFAULT trap.spy('computed', 1),
	c int GENERATED ALWAYS AS (trap.spy('generated', id)) STORED,
	at timestamptz DEFAULT '2023-01-01');
CREATE INDEX ON trap.target (trap.spy('indexed', id));
ALTER TABLE trap.target ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY spied ON trap.target USING (trap.spy('policy', id) = id);
CREATE FUNCTION trap.note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM trap.spy(TG_ARGV[0], NEW.id); RETURN NEW; END$$;
CREATE TRIGGER spied BEFORE INSERT ON trap.target FOR EACH ROW EXECUTE FUNCTION trap.note('before');
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON trap.target DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trap.note('deferred');
CREATE VIEW trap.seen AS SELECT trap.spy('viewed', n) AS id, 1 AS a FROM generate_series(1, 25) n;
DO $$
DECLARE
	o record;
BEGIN
	FOR o IN
		SELECT oid, oprname, oprleft::regtype AS l, oprright::regtype AS r, oprresult::regtype AS result
		FROM pg_operator
		WHERE oprname IN ('=', '<>', '<', '<=', '>', '>=', '+', '-', '||') AND oprleft = oprright
			AND oprleft IN ('text'::regtype, 'int'::regtype, 'bigint'::regtype, 'bool'::regtype, 'timestamptz'::regtype, 'oid'::regtype, 'jsonb'::regtype)
	LOOP
		EXECUTE format('CREATE FUNCTION trap.f%1$s(a %2$s, b %3$s) RETURNS %4$s LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS
			''BEGIN IF current_user <> ''''ann'''' THEN RAISE ''''caught %%'''', current_user; END IF; PERFORM nextval(''''trap.site_caught''''); RETURN a %5$s b; END''',
			o.oid, o.l, o.r, o.result, o.oprname);
		EXECUTE format('CREATE OPERATOR trap.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = trap.f%s)', o.oprname, o.l, o.r, o.oid);
	END LOOP;
END $$;
BEGIN;
SET search_path = pg_temp, trap, pg_catalog;
SELECT public.flow_create_dag('spied', on_success => $$SELECT trap.spy('callback', 1); CREATE TEMP TABLE callback (a int)$$);
SELECT public.flow_add_sql('spied', 'sql', $$
	CREATE TEMP TABLE task_run (run_id bigint); CREATE TEMP TABLE pg_extension (extname name, extowner oid);
	INSERT INTO trap.target (id) VALUES (101)$$);
SELECT public.flow_add_sql('spied', 'outside', $$
	CREATE TEMP TABLE task_run (run_id bigint); SET search_path = pg_temp, trap, pg_catalog; SET ROLE mate; RESET ROLE;
	INSERT INTO trap.target (id) VALUES (102)$$, in_transaction => false);
SELECT public.flow_add_upsert('spied', 'upsert', 'trap.seen', 'trap.target', page_by => '{id}', page_size => 10);
SELECT public.flow_add_upsert('spied', 'parallel', 'SELECT id OPERATOR(pg_catalog.+) 200 AS id, a FROM trap.seen', 'trap.target', page_by => '{id}', page_size => 10, parallel_pages => 2, on_row_error => 'keep', upstream => '{upsert}');
SELECT public.flow_add_check('spied', 'check', $$SELECT text 'a' = text 'a'$$);
SELECT public.flow_add_sensor('spied', 'sensor', $$SELECT 1 = 1$$);
SELECT public.flow_add_branch('spied', 'branch', $$SELECT text 'chos' || text 'en'$$);
SELECT public.flow_add_sql('spied', 'chosen', 'SELECT 1', upstream => '{branch}');
SELECT public.flow_create_dag('child');
SELECT public.flow_add_sql('child', 'conf', $$INSERT INTO app.note (k, v) SELECT text 'conf', run.conf::text$$);
SELECT public.flow_add_trigger('spied', 'trigger', 'child', conf => '{"a": "it''s $1 \" \\\\ run.dag_id ☃"}', wait => true);
SELECT public.flow_add_retention('spied', 'retention', 'trap.target', 'at', '1 day', upstream => '{sql,outside,upsert,parallel}');
COMMIT;
});
$run = value_as($node, 'ann', q{SELECT flow_trigger('spied')});
is(wait_for_run($node, $run), 'success', 'tasks of all kinds run as their owner, and none of flowpg\'s SQL is caught')
  or diag(value($node, "SELECT task_id, state, message FROM flow.task_run WHERE run_id = $run"));
wait_for($node, "SELECT count(*) = 1 FROM flow.callback WHERE run_id = $run AND ended_at IS NOT NULL", 'the callback');
is(value($node, "SELECT state || coalesce(message, '') FROM flow.callback WHERE run_id = $run"), 'success', 'and so does the callback');
is(value($node, q{SELECT string_agg(sequencename, ' ' ORDER BY sequencename) FROM pg_sequences WHERE schemaname = 'trap' AND last_value IS NULL}), '', 'each site was called');
is(noted('conf'), q{{"a": "it's $1 \" \\\\ run.dag_id ☃"}}, 'conf is data');

# a trigger that another has put on the target runs as the DAG's owner; one
# that fails when the task commits takes the record with it
value_as($node, 'bob', q{
CREATE SCHEMA of_bob;
GRANT USAGE ON SCHEMA of_bob TO ann;
CREATE TABLE of_bob.target (id int PRIMARY KEY);
GRANT SELECT, INSERT, UPDATE ON of_bob.target TO ann;
CREATE FUNCTION of_bob.note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO app.note (k, v) VALUES ('of bob', concat_ws(' ', current_user, session_user)); RETURN NULL; END$$;
CREATE TRIGGER note AFTER INSERT ON of_bob.target FOR EACH ROW EXECUTE FUNCTION of_bob.note();
CREATE FUNCTION of_bob.rise() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE flow.task_run SET rows_written = 0; RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER rise AFTER INSERT ON of_bob.target DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.id = 2) EXECUTE FUNCTION of_bob.rise();
});
value_as($node, 'ann', q{
BEGIN;
SELECT flow_create_dag('to bob');
SELECT flow_add_upsert('to bob', 'one', 'SELECT 1 AS id', 'of_bob.target');
SELECT flow_add_sql('to bob', 'two', 'INSERT INTO of_bob.target VALUES (2)');
COMMIT;
});
$run = value_as($node, 'ann', q{SELECT flow_trigger('to bob')});
wait_for_run($node, $run);
is(tasks_of($run), "one=success\ntwo=failed 42501", 'a deferred trigger has no more rights, and its failure is the task\'s');
is(noted('of bob'), 'ann ann', 'another\'s trigger runs as the DAG\'s owner');

# ------------------------------------------------------------------------
# What is left for the next task of the same role

value_as($node, 'ann', q{
BEGIN;
SELECT flow_create_dag('heirs');
SELECT flow_add_sql('heirs', 'leaves', $$
	CREATE SEQUENCE pg_temp.s; SELECT nextval('pg_temp.s');
	CREATE FUNCTION pg_temp.left_over() RETURNS int LANGUAGE sql AS 'SELECT 1';
	CREATE DOMAIN pg_temp.left_over AS int;
	SET application_name = 'left over'; SET datestyle = 'SQL, DMY'; SET client_encoding = 'LATIN1'; SET app.over = 'left over';
	PREPARE left_over AS SELECT 1;
	DECLARE left_over CURSOR WITH HOLD FOR SELECT 1;
	SELECT pg_advisory_lock(4712);
	SET ROLE mate;
	INSERT INTO app.note (k, v) VALUES ('left', current_user || ' ' || pg_backend_pid());
	SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY$$, in_transaction => false, trigger_rule => 'all_done');
SELECT flow_add_sql('heirs', 'finds', $$
	INSERT INTO app.note (k, v) VALUES ('found', concat_ws(' ', current_user, pg_backend_pid(), to_regprocedure('pg_temp.left_over()'), to_regtype('pg_temp.left_over'),
		current_setting('default_transaction_read_only'), nullif(current_setting('application_name'), ''),
		current_setting('datestyle'), current_setting('client_encoding'), nullif(current_setting('app.over', true), ''),
		(SELECT 'prepared' FROM pg_prepared_statements WHERE name = 'left_over'), (SELECT 'cursor' FROM pg_cursors WHERE name = 'left_over'),
		(SELECT 'lock' FROM pg_locks WHERE locktype = 'advisory' AND objid = 4712)))$$, upstream => '{leaves}', trigger_rule => 'all_done');
SELECT flow_add_sql('heirs', 'last', 'SELECT lastval()', upstream => '{finds}');
COMMIT;
});
$run = value_as($node, 'ann', q{SELECT flow_trigger('heirs')});
is(wait_for_run($node, $run), 'failed', 'only the last one fails')
  or diag(value($node, "SELECT task_id, message FROM flow.task_run WHERE run_id = $run"));
my ($mate, $pid) = split / /, noted('left') // '';
is($mate, 'mate', 'a task that leaves much behind')
  or diag(value($node, "SELECT task_id, message FROM flow.task_run WHERE run_id = $run"));
is(noted('found'), "ann $pid off ISO, MDY UTF8", 'leaves nothing for the next one in its process');
is(value($node, "SELECT string_agg(task_id || ' ' || sqlstate, ' ') FROM flow.task_run WHERE run_id = $run AND state = 'failed'"), 'last 55000', 'no sequence either');

# a superuser's task may become another session user, for itself
define($node, q{
SELECT flow_create_dag('lowered');
SELECT flow_add_sql('lowered', 'lowers', 'SET SESSION AUTHORIZATION bob', in_transaction => false);
SELECT flow_add_sql('lowered', 'finds', $$INSERT INTO app.note (k, v) VALUES ('lowered', session_user || ' ' || current_user)$$, upstream => '{lowers}');
});
my $root = value($node, 'SELECT current_user');
is(wait_for_run($node, trigger($node, 'lowered')), 'success', 'a task that becomes another user');
is(noted('lowered'), "$root $root", 'leaves that to no other');

# ------------------------------------------------------------------------
# Settings of a task do not reach flowpg's own statements: a trigger that a
# superuser has put on its table tells what they see.

$node->safe_psql('postgres', q{
CREATE FUNCTION app.tell_settings() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
	INSERT INTO app.note (k, v) SELECT 'seen', string_agg(concat(s, ' ', current_setting(s)), ', ' ORDER BY s)
	FROM unnest('{enable_indexscan,enable_nestloop,enable_seqscan,intervalstyle,jit,lock_timeout,plan_cache_mode,search_path,transaction_read_only}'::text[]) s;
	RETURN NULL;
END$$;
CREATE TRIGGER tell_settings AFTER UPDATE ON flow.task_run FOR EACH ROW WHEN (NEW.dag_id = 'sets' AND NEW.state = 'success') EXECUTE FUNCTION app.tell_settings();
});
value_as($node, 'ann', q{
BEGIN;
SELECT flow_create_dag('sets');
SELECT flow_add_sql('sets', 'sets', $$
	SET enable_indexscan = off; SET enable_nestloop = off; SET enable_seqscan = on; SET intervalstyle = iso_8601; SET jit = on;
	SET lock_timeout = '1h'; SET plan_cache_mode = force_custom_plan; SET search_path = trap, pg_catalog; SET TRANSACTION READ ONLY$$);
COMMIT;
});
$run = value_as($node, 'ann', q{SELECT flow_trigger('sets')});
is(wait_for_run($node, $run), 'success', 'a task that sets much')
  or diag(value($node, "SELECT task_id, message FROM flow.task_run WHERE run_id = $run"));
is(noted('seen'), 'enable_indexscan on, enable_nestloop on, enable_seqscan off, intervalstyle postgres, jit off, lock_timeout 0, plan_cache_mode auto, search_path pg_catalog, pg_temp, transaction_read_only off',
	'leaves the record of it its own settings');
$node->safe_psql('postgres', 'DROP TRIGGER tell_settings ON flow.task_run');

# ------------------------------------------------------------------------
# Rights that are gone are gone for the next task, also in a process that was
# there before

$node->safe_psql('postgres', q{
CREATE ROLE chief LOGIN SUPERUSER;
SET SESSION AUTHORIZATION chief;
BEGIN;
SELECT flow_create_dag('of chief');
SELECT flow_add_sql('of chief', 'climbs', $$SET SESSION AUTHORIZATION bob; INSERT INTO app.note (k, v) VALUES ('chief', current_user)$$);
COMMIT;
});
is(wait_for_run($node, trigger($node, 'of chief')), 'success', 'a superuser becomes anyone');
$node->safe_psql('postgres', 'ALTER ROLE chief NOSUPERUSER');
is(wait_for_run($node, trigger($node, 'of chief')), 'failed', 'one who is none any more does not');
is(noted('chief'), 'bob', 'not once');

# the DAG that a task triggers, given to another since
value_as($node, 'ann', q{
BEGIN;
SELECT flow_create_dag('pulled'), flow_create_dag('pulls');
SELECT flow_add_sql('pulled', 'one', 'SELECT 1');
SELECT flow_add_trigger('pulls', 'pull', 'pulled', wait => true);
COMMIT;
});
is(wait_for_run($node, trigger($node, 'pulls')), 'success', 'a task triggers a DAG of its owner');
$node->safe_psql('postgres', q{SELECT flow_set_owner('pulled', 'bob')});
$run = trigger($node, 'pulls');
wait_for_run($node, $run);
is(tasks_of($run), 'pull=failed 42704', 'and none that is another\'s now');

# ... or while the task waits for who might be dropping it
$node->safe_psql('postgres', q{SELECT flow_set_owner('pulled', 'ann')});
my $giver = $node->background_psql('postgres');
$giver->query_safe(q{BEGIN; SELECT FROM flow.dag WHERE dag_id = 'pulled' FOR UPDATE; SELECT flow_set_owner('pulled', 'bob')});
$run = trigger($node, 'pulls');
wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'ann'}, 'the task waits for the DAG');
$giver->query_safe('COMMIT');
$giver->quit;
wait_for_run($node, $run);
is(tasks_of($run), 'pull=failed 42704', 'nor one that is given away meanwhile');

# ------------------------------------------------------------------------
# Whoever listens is told ids and states, whatever they are called

my $listener = $node->background_psql('postgres', extra_params => [ '-U', 'bob' ]);
my $name = q{x", "state": "forged};
my @told;

$listener->query_safe('LISTEN flowpg');
value_as($node, 'ann', qq{
BEGIN;
SELECT flow_create_dag(\$n\$$name\$n\$);
SELECT flow_add_sql(\$n\$$name\$n\$, \$n\$$name\$n\$, 'DO \$\$BEGIN RAISE ''secret''; END\$\$');
COMMIT;
});
$run = value_as($node, 'ann', qq{SELECT flow_trigger(\$n\$$name\$n\$, conf => '{"secret": 1}')});
is(wait_for_run($node, $run), 'failed', 'a run with an odd name');
for (1 .. 100)
{
	push @told, grep { /"run_id": $run\b/ } $listener->query_safe('SELECT pg_sleep(0.05)') =~ /with payload "(\{.*?\})" received/g;
	last if grep { /"event": "run"/ } @told;
}
is(value($node, 'SELECT DISTINCT p ->> $$dag_id$$, p ->> $$state$$ FROM unnest(ARRAY[' . join(', ', map { "\$p\$$_\$p\$::jsonb" } @told) . ']) p'),
	"$name|failed", 'keeps it') or diag(@told);
is(value($node, 'SELECT string_agg(k, $$ $$ ORDER BY n, k) FROM (SELECT DISTINCT p ->> $$event$$ AS n, k FROM unnest(ARRAY[' . join(', ', map { "\$p\$$_\$p\$::jsonb" } @told) . ']) p, jsonb_object_keys(p) k) s'),
	'dag_id event run_id run_type state dag_id event run_id state task_id try_number', 'and nothing else is told');
$listener->quit;

# ------------------------------------------------------------------------
# What others see of it while it runs

my $gate = close_gate($node, 33);
value_as($node, 'ann', q{
BEGIN;
SELECT flow_create_dag('secret');
SELECT flow_add_sql('secret', 'secret', 'SELECT pg_advisory_xact_lock_shared(33)');
COMMIT;
});
$run = value_as($node, 'ann', q{SELECT flow_trigger('secret', conf => '{"secret": 1}')});
wait_for($node, "SELECT count(*) = 1 FROM flow.running WHERE run_id = $run", 'the task to run');
my $seen = q{SELECT string_agg(r::text, ' ') FROM (
	SELECT r::text FROM flow.running r UNION ALL SELECT w::text FROM flow.worker_status w UNION ALL SELECT s::text FROM flow.scheduler_status s
	UNION ALL SELECT query FROM pg_stat_activity UNION ALL SELECT t::text FROM flow.task_status t UNION ALL SELECT slot::text FROM flow.worker_slots() slot) r};
like(value_as($node, 'ann', $seen), qr/secret/, 'its owner sees a task that runs');
unlike(value_as($node, 'bob', $seen), qr/secret/, 'another sees nothing of it');
like(error_as($node, 'bob', "SELECT $_"), qr/^42704 /, "nor can it be reached: $_")
  foreach "flow_cancel_run($run)", "flow_mark($run, 'secret', 'success')", "flow_wait_run($run)";
$gate->open;
is(wait_for_run($node, $run), 'success', 'it goes on');

# ------------------------------------------------------------------------
# A superuser takes over the name of a DAG whose last run still resists

$gate = close_gate($node, 34);
value_as($node, 'ann', q{
BEGIN;
SELECT flow_create_dag('nightly', dagrun_timeout => '100 milliseconds',
	on_success => $$INSERT INTO app.note (k, v) VALUES ('nightly', current_user)$$, on_failure => $$INSERT INTO app.note (k, v) VALUES ('nightly', current_user)$$);
SELECT flow_add_sql('nightly', 'resists', $sql$DO $$
DECLARE
	done boolean = false;
BEGIN
	WHILE NOT done LOOP
		BEGIN
			PERFORM pg_advisory_xact_lock_shared(34);
			done := true;
		EXCEPTION WHEN query_canceled THEN
			INSERT INTO app.note (k, v) VALUES ('resists', '');
		END;
	END LOOP;
END $$ $sql$);
SELECT flow_add_sql('nightly', 'obeys', 'SELECT pg_advisory_xact_lock_shared(34)');
COMMIT;
});
$run = value_as($node, 'ann', q{SELECT flow_trigger('nightly')});
wait_for($node, q{SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 34 AND NOT granted}, 'a task at its gate');
wait_for_task($node, $run, 'obeys', 'cancelled');
define($node, q{
SELECT flow_drop_dag('nightly');
SELECT flow_create_dag('nightly', on_success => $$INSERT INTO app.note (k, v) VALUES ('new nightly', current_user)$$);
SELECT flow_add_sql('nightly', 'resists', 'SELECT 1');
SELECT flow_trigger('nightly');
});
my $new_run = value($node, q{SELECT max(run_id) FROM flow.dag_run WHERE dag_id = 'nightly'});
is(wait_for_run($node, $new_run), 'success', 'the new DAG runs');
$gate->open;
is(wait_for_run($node, $run), 'failed', 'the old run ends, and would call back');
wait_for($node, q{SELECT count(*) > 0 FROM app.note WHERE k = 'new nightly'}, 'the callback of the new one');
wait_for($node, q{SELECT count(*) = 0 FROM flow.callback WHERE ended_at IS NULL}, 'callbacks to end');
is(noted('nightly'), '', 'no callback of the old DAG runs as the new owner');
is(value($node, "SELECT count(*) FROM flow.dag_log WHERE run_id = $run"), '0', 'nor does its run count for the new one');

# a callback of it that was owed when the scheduler ended
my $pid_before = scheduler_pid($node);
$node->safe_psql('postgres', "INSERT INTO flow.callback (run_id, run_state, state, queued_at) VALUES ($run, 'failed', 'queued', now());"
	. "SELECT pg_terminate_backend($pid_before)");
wait_for_scheduler($node, not_pid => $pid_before);
wait_for($node, q{SELECT count(*) = 0 FROM flow.callback WHERE ended_at IS NULL}, 'the callback that is owed to end');
is(noted('nightly'), '', 'is not given out by the next scheduler either');

# A run that the old DAG has started after it was dropped, and before that was
# committed: the request of the drop does not know of it.  Or the new DAG is
# found by a scheduler that is told of no drop.
foreach my $is_restarted (0, 1)
{
	my $dag = "handed $is_restarted";
	my $day = 6 + $is_restarted;
	my $superuser = $node->background_psql('postgres');

	$gate = close_gate($node, 35);
	value_as($node, 'ann', qq{
BEGIN;
SELECT flow_create_dag('$dag', '\@daily', start_date => '2024-01-0@{[$day - 1]}');
SELECT flow_add_sql('$dag', 'first', 'SELECT pg_advisory_xact_lock_shared(35)');
SELECT flow_add_sql('$dag', 'then', \$\$INSERT INTO app.note (k, v) VALUES ('$dag', current_user)\$\$, upstream => '{first}', trigger_rule => 'all_done');
COMMIT;
});
	$superuser->query_safe(qq{
BEGIN;
SELECT flow_drop_dag('$dag');
SELECT flow_create_dag('$dag');
SELECT flow_add_sql('$dag', 'then', 'SELECT 1');
DELETE FROM flow.request WHERE dag_id = '$dag' AND $is_restarted = 1});
	set_now($node, "2024-01-0$day 00:00:00+00");
	wait_for($node, q{SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 35 AND NOT granted}, 'a task at its gate');
	$run = value($node, "SELECT max(run_id) FROM flow.dag_run WHERE dag_id = '$dag'");
	my $scheduler = scheduler_pid($node);
	$superuser->query_safe('COMMIT');
	$superuser->quit;
	if ($is_restarted)
	{
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($scheduler)");
		wait_for_scheduler($node, not_pid => $scheduler);
	}
	else
	{
		wait_for($node, qq{SELECT count(*) = 0 FROM flow.request WHERE dag_id = '$dag'}, 'the new DAG to be read');
	}
	$gate->open;
	is(wait_for_run($node, $run), 'cancelled', 'a run of the dropped DAG is cancelled: ' . ($is_restarted ? 'at a restart' : 'at once'));
	is(noted($dag), '', 'and nothing of it runs as the new owner');
}

# ------------------------------------------------------------------------
# A role loses something: its DAG stops, with the reason, and no other does

my %losses = (
	dropped => [ 'DROP OWNED BY dropped; DROP ROLE dropped', qr/^task "t": the DAG's owner, the role with OID \d+, does not exist any more$/ ],
	login => [ 'ALTER ROLE login NOLOGIN', qr/^task "t": the DAG's owner, role "login", cannot log in$/ ],
	connection => [ 'REVOKE CONNECT ON DATABASE postgres FROM connection', qr/^task "t": the DAG's owner, role "connection", may not connect to the database$/ ],
	few => [ 'ALTER ROLE few CONNECTION LIMIT 0', undef ],
	rights => [ 'REVOKE ALL ON lost.rights FROM rights', qr/^task "t": permission denied for table rights$/ ],
	place => [ 'DROP SCHEMA lost_place CASCADE', qr/^task "t": relation "t" does not exist$/ ],
	granted => [ q{SELECT flow_revoke('granted')}, undef ],
	late => [ q{ALTER ROLE late VALID UNTIL '2000-01-01'}, undef ],
	kept => [ 'SELECT 1', undef ],
);
delete $losses{login} if $node->pg_version >= 17;
my @lost = sort keys %losses;
$node->safe_psql('postgres', 'CREATE SCHEMA lost; REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO ann, bob;'
	. join('', map { qq{CREATE ROLE $_ LOGIN; SELECT flow_grant('$_'); GRANT CONNECT ON DATABASE postgres TO $_; GRANT USAGE ON SCHEMA lost TO $_;
		CREATE TABLE lost.$_ (v int); GRANT INSERT ON lost.$_ TO $_; CREATE SCHEMA lost_$_ AUTHORIZATION $_; CREATE TABLE lost_$_.t (v int); ALTER TABLE lost_$_.t OWNER TO $_; } } @lost));
value_as($node, $_, qq{
BEGIN;
SET search_path = lost_$_, public;
SELECT flow_create_dag('of $_');
SELECT flow_add_sql('of $_', 't', 'INSERT INTO lost.$_ VALUES (1); INSERT INTO t VALUES (1)');
COMMIT;
}) foreach @lost;
my %runs = map { $_ => trigger($node, "of $_") } @lost;
is(join(' ', map { "$_ " . wait_for_run($node, $runs{$_}) } @lost), join(' ', map { "$_ success" } @lost), 'all of them run');
$node->safe_psql('postgres', $losses{$_}[0]) foreach @lost;
%runs = map { $_ => trigger($node, "of $_") } @lost;
foreach my $role (@lost)
{
	my $message = $losses{$role}[1];

	is(wait_for_run($node, $runs{$role}), defined $message ? 'failed' : 'success', "a role that loses: $losses{$role}[0]");
	defined $message ? like(first_line($runs{$role}), $message, '... and why') : is(first_line($runs{$role}), '', '... nothing');
}
is(value($node, 'SELECT problem FROM flow.scheduler_status'), '', 'the scheduler has no problem');
like(value($node, q{SELECT owner FROM flow.dag_status WHERE dag_id = 'of dropped'}), qr/^\d+$/, 'a DAG without owner can be looked at');
$node->safe_psql('postgres', q{SELECT flow_set_owner('of dropped', 'kept'); SELECT flow_add_sql('of dropped', 't', 'SELECT 1')});
is(wait_for_run($node, trigger($node, 'of dropped')), 'success', 'and given to another role');

# with a worker that has connected while it could
$node->safe_psql('postgres', 'REVOKE CONNECT ON DATABASE postgres FROM kept');
$run = trigger($node, 'of kept');
is(wait_for_run($node, $run), 'failed', 'a role that may not connect any more');
like(first_line($run), qr/^task "t": the DAG's owner, role "kept", may not connect to the database$/, 'has no session that goes on');

# A DAG is dropped while its scheduler makes sure that a worker, which could
# not begin, is gone.
SKIP:
{
	skip 'the owner needs no LOGIN', 1 if $node->pg_version >= 17;
	$node->safe_psql('postgres', 'CREATE ROLE leaving LOGIN; SELECT flow_grant($$leaving$$)');
	foreach my $try (1 .. 5)
	{
		$node->safe_psql('postgres', q{
			ALTER ROLE leaving LOGIN;
			BEGIN;
			SELECT flow_create_dag('leaving');
			SELECT flow_add_sql('leaving', 'task', 'SELECT 1');
			SELECT flow_set_owner('leaving', 'leaving');
			COMMIT;
			ALTER ROLE leaving NOLOGIN;
			SELECT flow_trigger('leaving');
			SELECT pg_sleep(0.05 * } . $try . q{);
			SELECT flow_drop_dag('leaving')});
	}
	wait_for($node, q{SELECT count(*) = 5 FROM flow.dag_run WHERE dag_id = 'leaving' AND state IN ('failed', 'cancelled')},
		'runs of the dropped DAG to end');
	is(crash_count($node), 0, 'a DAG whose worker cannot begin can be dropped');
}

$node->stop;
done_testing();
