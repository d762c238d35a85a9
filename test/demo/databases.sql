-- Two databases of one server here; the legacy system may as well be another
-- server, or another product with a foreign data wrapper.

CREATE DATABASE legacy;
CREATE DATABASE warehouse;
