-- The figures that the DAGs have brought into the warehouse.

\pset format csv
\pset tuples_only on

SELECT 'lv0', count(*) FROM lv0.flights;
SELECT 'lv1', count(*) FROM lv1.flight;
SELECT 'lv2', count(*) FROM lv2.carrier_day;
SELECT 'report', count(*) FROM report.carrier_day;

SELECT 'day', flight_date, count(*), sum(distance),
    count(*) FILTER (WHERE is_cancelled), sum(departure_delay), sum(air_time)
FROM lv1.flight
GROUP BY flight_date
ORDER BY flight_date;

SELECT 'carrier', flight_date, carrier, flights, cancelled, mean_arrival_delay
FROM lv2.carrier_day
ORDER BY flight_date, carrier COLLATE "C";

SELECT 'departures by hour',
    extract(hour FROM departed_at AT TIME ZONE 'America/New_York')::int AS hour,
    count(*)
FROM lv1.flight
WHERE NOT is_cancelled
GROUP BY hour
ORDER BY hour;
