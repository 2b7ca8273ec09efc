"""A backlog of page views, written by Headcount and by COPY into a table of the same kind with the same rows."""

import time

from .. import load, services
from ..measure import Used, resident

TITLE = 'Writing a backlog'
LIMIT = 110
VIEWS = 80_000
# In both tables before the first round: what a row costs depends on the size of its table's indexes.
ROWS_BEFORE = 200_000
COLUMNS = 'user_id, event_type, description, metadata, ip_address, user_agent, device_info, location_data, timestamp'


def run(world, report, options):
    postgres, sidecar = world.postgres, world.headcount()
    load.saturate(sidecar.port, 1)
    sidecar.drained()
    count = int(postgres.sql('SELECT count(*) FROM accounts_userevent'))
    copies_of_each = 1 + ROWS_BEFORE // max(count, 1)
    postgres.sql(f'INSERT INTO accounts_userevent ({COLUMNS})'
                 f' SELECT {COLUMNS} FROM accounts_userevent, generate_series(1, {copies_of_each})'
                 f' LIMIT {max(ROWS_BEFORE - count, 0)};'
                 'CREATE TABLE copied (LIKE accounts_userevent INCLUDING ALL);'
                 'ALTER TABLE copied ADD FOREIGN KEY (user_id) REFERENCES accounts_userprofile (id)'
                 ' DEFERRABLE INITIALLY DEFERRED;'
                 'INSERT INTO copied SELECT * FROM accounts_userevent')
    file = f'{postgres.data}/rows.copy'
    ours, copies, cpu_ours, cpu_copy = [], [], [], []
    for _ in range(min(3, options.rounds)):
        before = int(postgres.sql('SELECT count(*) FROM accounts_userevent'))
        # A lock keeps the writer away while the backlog grows.
        hold = world.stack.add(services.Service(
            'lock', postgres.psql('BEGIN; LOCK accounts_userevent; SELECT pg_sleep(120)')))
        made = 0
        while made < VIEWS:
            made += load.saturate(sidecar.port, 2)
        services.wait_until('all views to be in the spool', lambda: not sidecar.metric('headcount_recorder_queue_views'))
        waiting = int(sidecar.metric('headcount_spool_views'))
        postgres.sql('CHECKPOINT')
        with Used(postgres) as used:
            start = time.monotonic()
            postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(120)%'"
                         ' AND pid <> pg_backend_pid()')
            # Looked at seldom: each look takes CPU that Postgres wants.
            services.wait_until(
                'the backlog to be written', lambda: not sidecar.metric('headcount_spool_views'), every=0.1)
            took = time.monotonic() - start
        world.stack.stop(hold)
        rows = int(postgres.sql('SELECT count(*) FROM accounts_userevent')) - before
        ours.append(waiting / took)
        cpu_ours.append(used.seconds / rows * 1e6)
        report.add('memory of the sidecar after it', 'MiB', resident(sidecar))

        postgres.sql(f'COPY (SELECT * FROM (SELECT * FROM accounts_userevent ORDER BY id DESC LIMIT {rows}) AS latest'
                     f" ORDER BY id) TO '{file}' (FORMAT binary)")
        postgres.sql('CHECKPOINT')
        with Used(postgres) as used:
            start = time.monotonic()
            postgres.sql(f"COPY copied FROM '{file}' (FORMAT binary)")
            took = time.monotonic() - start
        copies.append(rows / took)
        cpu_copy.append(used.seconds / rows * 1e6)
    report.extend('Headcount, views of a backlog, per second', '', ours)
    report.extend('COPY of the same rows into a table like it, rows per second', '', copies)
    report.extend("Postgres' CPU per view: event, session and profile", 'µs', cpu_ours)
    report.extend("Postgres' CPU per row of COPY", 'µs', cpu_copy)
    report.ratio('rate of the backlog / rate of COPY', ours, copies, '≥ 0.8')
    report.ratio("Postgres' CPU per view / per row of COPY", cpu_ours, cpu_copy, '≤ 1.5')
