#!/bin/sh
# Run once, when the primary's data are made: replicas may connect as the product's user.
set -eu
echo "host replication tenfold all scram-sha-256" >> "$PGDATA/pg_hba.conf"
