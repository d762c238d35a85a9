-- Four DAGs, one a level.  Only the first has a schedule: it takes a day's
-- flights when the day is over.  Each other one runs for a day as soon as the
-- one before it has succeeded for that day.
--
-- run.ds is the day that a run is for.  It is a parameter, not pasted text, so
-- it reaches the index of a table here and the WHERE of the legacy system.

BEGIN;

-- legacy -> level 0: copied page by page, in the order of the key.  A row that
-- is there already and has not changed is not written again.

SELECT flow_create_dag('legacy_to_lv0_flights', '@daily',
    description => 'A day of the legacy system, as it is');

SELECT flow_add_upsert('legacy_to_lv0_flights', 'airlines',
    source => 'legacy.airlines',
    target => 'lv0.airlines');

SELECT flow_add_upsert('legacy_to_lv0_flights', 'flights',
    source => $$
        SELECT flight_date, carrier, flight, origin, dest, tailnum, dep_time,
            dep_delay, arr_time, arr_delay, air_time, distance
        FROM legacy.flights
        WHERE flight_date = run.ds
    $$,
    target => 'lv0.flights',
    page_size => 250,
    upstream => '{airlines}');

-- level 0 -> level 1: 517 becomes 05:17, and a flight that left after midnight
-- was scheduled the day before.  Cancelled flights stay.

SELECT flow_create_dag('lv0_to_lv1_flights',
    description => 'A day of flights, clean');

SELECT flow_add_upsert('lv0_to_lv1_flights', 'flights',
    source => $$
        SELECT flight_date, carrier, flight AS flight_number, origin,
            dest AS destination, tailnum AS tail_number,
            dep_time IS NULL AS is_cancelled,
            scheduled_at,
            scheduled_at + make_interval(mins => dep_delay) AS departed_at,
            dep_delay AS departure_delay,
            arr_delay AS arrival_delay,
            air_time, distance
        FROM lv0.flights
            CROSS JOIN LATERAL (
                SELECT (dep_time / 100) * 60 + dep_time % 100 - dep_delay
                    AS minute
            ) scheduled
            CROSS JOIN LATERAL (
                SELECT (flight_date + make_interval(mins => (minute + 1440) % 1440))
                    AT TIME ZONE 'America/New_York' AS scheduled_at
            ) local
        WHERE flight_date = run.ds
    $$,
    target => 'lv1.flight');

-- A check that does not hold fails the run, and what waits for it does not start.

SELECT flow_add_check('lv0_to_lv1_flights', 'flights_complete',
    condition => $$
        SELECT 'the day has flights' AS name, count(*) > 0 AS ok, NULL AS detail
        FROM lv1.flight
        WHERE flight_date = run.ds
        UNION ALL
        SELECT 'every flight has come', count(l1) = count(*),
            format('%s of %s', count(l1), count(*))
        FROM lv0.flights l0
            LEFT JOIN lv1.flight l1
                ON l1.flight_date = l0.flight_date
                AND l1.carrier = l0.carrier
                AND l1.flight_number = l0.flight
                AND l1.origin = l0.origin
        WHERE l0.flight_date = run.ds
    $$,
    upstream => '{flights}');

-- level 1 -> level 2: figures.  No index can page them, so they are computed once
-- and paged from there.

SELECT flow_create_dag('lv1_to_lv2_carrier_day',
    description => 'Flights, cancellations and delays by carrier');

SELECT flow_add_upsert('lv1_to_lv2_carrier_day', 'carrier_day',
    source => $$
        SELECT flight_date, carrier,
            count(*) AS flights,
            count(*) FILTER (WHERE is_cancelled) AS cancelled,
            avg(departure_delay) AS mean_departure_delay,
            avg(arrival_delay) AS mean_arrival_delay
        FROM lv1.flight
        WHERE flight_date = run.ds
        GROUP BY flight_date, carrier
    $$,
    target => 'lv2.carrier_day');

-- level 2 -> report: any SQL will do; a task is one transaction, so that
-- readers see the day before or after, never between.

SELECT flow_create_dag('lv2_to_report_carrier_day',
    description => 'What is published: airlines by punctuality');

SELECT flow_add_sql('lv2_to_report_carrier_day', 'publish', $$
    DELETE FROM report.carrier_day WHERE flight_date = run.ds;

    INSERT INTO report.carrier_day
    SELECT flight_date,
        rank() OVER (ORDER BY mean_arrival_delay NULLS LAST),
        name, flights,
        100.0 * cancelled / flights,
        mean_arrival_delay
    FROM lv2.carrier_day JOIN lv0.airlines USING (carrier)
    WHERE flight_date = run.ds;
$$);

-- Which DAG waits for which.

SELECT flow_add_dependency('legacy_to_lv0_flights', 'lv0_to_lv1_flights');
SELECT flow_add_dependency('lv0_to_lv1_flights', 'lv1_to_lv2_carrier_day');
SELECT flow_add_dependency('lv1_to_lv2_carrier_day', 'lv2_to_report_carrier_day');

COMMIT;
