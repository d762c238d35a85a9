-- The figures straight from the CSV file, without flowpg: runs in a database
-- that does not have it.  Prints what figures_of_warehouse.sql must print.

\pset format csv
\pset tuples_only on

CREATE TEMP TABLE csv (
    year int, month int, day int, dep_time int, dep_delay int, arr_time int,
    arr_delay int, carrier text, tailnum text, flight int, origin text,
    dest text, air_time int, distance int, hour int, minute int);
\copy csv FROM PROGRAM 'gzip -dc flights.csv.gz | awk -F, ''NR == 1 || $2 == 1''' CSV HEADER

SELECT level, count(*) FROM csv, unnest('{lv0,lv1}'::text[]) level
GROUP BY level ORDER BY level;
SELECT level, count(DISTINCT (day, carrier)) FROM csv, unnest('{lv2,report}'::text[]) level
GROUP BY level ORDER BY level;

SELECT 'day', make_date(year, month, day), count(*), sum(distance),
    count(*) FILTER (WHERE dep_time IS NULL), sum(dep_delay), sum(air_time)
FROM csv
GROUP BY year, month, day
ORDER BY year, month, day;

SELECT 'carrier', make_date(year, month, day), carrier, count(*),
    count(*) FILTER (WHERE dep_time IS NULL), round(avg(arr_delay), 2)
FROM csv
GROUP BY year, month, day, carrier
ORDER BY year, month, day, carrier COLLATE "C";

-- hour and minute are those of the departure, midnight being 24:00
SELECT 'departures by hour', hour % 24, count(*)
FROM csv
WHERE hour IS NOT NULL
GROUP BY hour % 24
ORDER BY hour % 24;
