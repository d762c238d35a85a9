# flowpg: data pipelines inside PostgreSQL.
#
#   make && sudo make install
#   make installcheck          (as an ordinary user; starts servers of its own)
#
# bash test/check.sh does all of this from a bare machine.

PG_CONFIG ?= pg_config

EXTENSION = flowpg
EXTVERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" flowpg.control)

MODULE_big = flowpg
OBJS = $(sort $(patsubst %.c,%.o,$(wildcard src/*.c)))
PG_CPPFLAGS = -Isrc -DFLOWPG_VERSION='"$(EXTVERSION)"'
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers

# The install script is the parts in order, joined.  Those of released versions
# are in the tree as they were then, and the scripts that lead from one to the
# next.
DATA_built = sql/flowpg--$(EXTVERSION).sql
DATA = $(sort $(filter-out $(DATA_built),$(wildcard sql/flowpg--*.sql)))
EXTRA_CLEAN = sql/flowpg--$(EXTVERSION).sql

REGRESS = cron schedule graph trigger_rule dag_api operators_api document \
	run_planner act upsert privileges rights bad_input
REGRESS_OPTS = --temp-instance=tmp_check/regress --temp-config=test/flowpg.conf

# pg_regress makes the last directory of --temp-instance only.
REGRESS_PREP = tmp_check

ISOLATION = $(sort $(patsubst test/specs/%.spec,%,$(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --temp-instance=tmp_check/isolation \
	--temp-config=test/flowpg.conf

TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# Makefile.global empties it; flags of the caller stay.
override PROVE_FLAGS += -I test/lib

$(OBJS): $(wildcard src/*.h) flowpg.control

sql/flowpg--$(EXTVERSION).sql: $(sort $(wildcard sql/install/*.sql))
	cat $^ > $@

tmp_check:
	mkdir -p $@
