-- The legacy system: an ordinary database that knows nothing of flowpg.
--
-- Its tables are as such tables are: times are numbers (517 is 05:17), what is
-- not known is NULL (a cancelled flight has no dep_time), and the day stands in
-- three columns.  The same flight number may leave from two airports on one
-- day, so origin belongs to the key.

CREATE TABLE airlines (
    carrier text PRIMARY KEY,
    name    text NOT NULL
);

CREATE TABLE flights (
    year        int NOT NULL,
    month       int NOT NULL,
    day         int NOT NULL,
    dep_time    int,
    dep_delay   int,
    arr_time    int,
    arr_delay   int,
    carrier     text NOT NULL REFERENCES airlines,
    tailnum     text,
    flight      int NOT NULL,
    origin      text NOT NULL,
    dest        text NOT NULL,
    air_time    int,
    distance    int NOT NULL,
    hour        int,
    minute      int,
    flight_date date GENERATED ALWAYS AS (make_date(year, month, day)) STORED,
    PRIMARY KEY (flight_date, carrier, flight, origin)
);

\copy airlines FROM 'airlines.csv' CSV HEADER
\copy flights FROM PROGRAM 'gzip -dc flights.csv.gz | awk -F, ''NR == 1 || $2 == 1''' CSV HEADER

SELECT count(*) AS flights, count(DISTINCT flight_date) AS days,
    count(*) FILTER (WHERE dep_time IS NULL) AS cancelled
FROM flights;

ANALYZE;

CREATE ROLE legacy_reader LOGIN;
GRANT SELECT ON airlines, flights TO legacy_reader;
