-- The warehouse: the database that flowpg runs in.

CREATE EXTENSION flowpg;
CREATE EXTENSION postgres_fdw;

-- The DAGs' days are days in New York.
ALTER DATABASE warehouse SET flowpg.timezone = 'America/New_York';
ALTER DATABASE warehouse SET TimeZone = 'America/New_York';

-- Who owns the DAGs and the tables; tasks run with the rights of this role.
CREATE ROLE etl LOGIN;
GRANT CREATE ON DATABASE warehouse TO etl;
SELECT flow_grant('etl');

-- The way to the legacy system.
CREATE SERVER legacy FOREIGN DATA WRAPPER postgres_fdw
    OPTIONS (host :'host', port :'port', dbname 'legacy');
GRANT USAGE ON FOREIGN SERVER legacy TO etl;
CREATE USER MAPPING FOR etl SERVER legacy
    OPTIONS (user 'legacy_reader', password_required 'false');

SET ROLE etl;

CREATE SCHEMA legacy;
IMPORT FOREIGN SCHEMA public LIMIT TO (airlines, flights)
    FROM SERVER legacy INTO legacy
    OPTIONS (import_generated 'false');

-- Level 0: the legacy tables as they are.
CREATE SCHEMA lv0;

CREATE TABLE lv0.airlines (
    carrier text PRIMARY KEY,
    name    text NOT NULL
);

CREATE TABLE lv0.flights (
    flight_date date,
    carrier     text,
    flight      int,
    origin      text,
    dest        text NOT NULL,
    tailnum     text,
    dep_time    int,
    dep_delay   int,
    arr_time    int,
    arr_delay   int,
    air_time    int,
    distance    int NOT NULL,
    PRIMARY KEY (flight_date, carrier, flight, origin)
);

-- Level 1: clean; times are times, and one need not know what a NULL means.
CREATE SCHEMA lv1;

CREATE TABLE lv1.flight (
    flight_date     date,
    carrier         text,
    flight_number   int,
    origin          text,
    destination     text NOT NULL,
    tail_number     text,
    is_cancelled    boolean NOT NULL,
    scheduled_at    timestamptz,
    departed_at     timestamptz,
    departure_delay int,
    arrival_delay   int,
    air_time        int,
    distance        int NOT NULL,
    PRIMARY KEY (flight_date, carrier, flight_number, origin),
    CONSTRAINT flight_departed_or_cancelled
        CHECK (is_cancelled = (departed_at IS NULL))
);
COMMENT ON COLUMN lv1.flight.departure_delay IS 'minutes; NULL: cancelled';
COMMENT ON COLUMN lv1.flight.arrival_delay IS 'minutes; NULL: cancelled or diverted';

-- Level 2: figures.
CREATE SCHEMA lv2;

CREATE TABLE lv2.carrier_day (
    flight_date          date,
    carrier              text,
    flights              bigint NOT NULL,
    cancelled            bigint NOT NULL,
    mean_departure_delay numeric(8, 2),
    mean_arrival_delay   numeric(8, 2),
    PRIMARY KEY (flight_date, carrier)
);

-- What is published.
CREATE SCHEMA report;

CREATE TABLE report.carrier_day (
    flight_date        date,
    place              bigint,
    airline            text,
    flights            bigint NOT NULL,
    cancelled_percent  numeric(5, 1) NOT NULL,
    mean_arrival_delay numeric(8, 2),
    PRIMARY KEY (flight_date, airline)
);
COMMENT ON COLUMN report.carrier_day.place IS '1: the most punctual airline of the day';
