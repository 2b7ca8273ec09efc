"""A proxied page: CPU of the proxy's process per request, saturated and at steady rates, and latency at half load."""

from .. import load, services
from ..measure import Used

TITLE = 'A proxied page view (280 bytes), CPU of the proxy per request'


def run(stack, report, options):
    postgres, redis, origin = stack.postgres(), stack.redis(), stack.origin()
    services.sessions_in_redis(redis)
    proxies = {
        'nginx': stack.nginx(origin),
        'HAProxy': stack.haproxy(origin),
        'nginx with Lua and Redis': stack.nginx_lua(origin, redis),
        'bare Pingora': stack.bare_pingora(origin),
        'Headcount, recording off': stack.headcount(origin, postgres, redis, record=services.OFF),
        'Headcount, recording on': stack.headcount(origin, postgres, redis),
    }
    for proxy in proxies.values():
        load.saturate(proxy.port, 1)

    saturated, rates, commands = {}, {}, []
    for _ in range(options.rounds):
        for name, proxy in proxies.items():
            before = services.redis_info(redis.port, 'stats', 'total_commands_processed')
            # Postgres and Redis work only for the last; what they cost per view is a row of its own.
            with Used(proxy, postgres, redis) as used:
                requests = load.saturate(proxy.port, options.seconds)
                if proxy is proxies['Headcount, recording on']:
                    proxy.drained()
            saturated.setdefault(name, []).append(used.each[0] / requests * 1e6)
            rates.setdefault(name, []).append(requests / options.seconds)
            if proxy is proxies['Headcount, recording on']:
                after = services.redis_info(redis.port, 'stats', 'total_commands_processed')
                commands.append((after - before) / requests)
                report.add('Postgres for it', 'µs', used.each[1] / requests * 1e6)
                report.add('Redis for it', 'µs', used.each[2] / requests * 1e6)
    for name, values in saturated.items():
        report.extend(f'{name}, saturated (64 connections)', 'µs', values)
    report.extend('Redis commands per view, saturated', '', commands)
    report.extend('requests per second, saturated, recording on', '1/s', rates['Headcount, recording on'])

    paced = {}
    chosen = ['nginx', 'bare Pingora', 'Headcount, recording off', 'Headcount, recording on']
    for rate, seconds, rounds in ((100, 8, 3), (1_000, 4, 3)):
        for _ in range(min(rounds, options.rounds)):
            for name in chosen:
                with Used(proxies[name]) as used:
                    requests = load.paced(proxies[name].port, rate, seconds)
                paced.setdefault((name, rate), []).append(used.seconds / requests * 1e6)
    for (name, rate), values in paced.items():
        report.extend(f'{name}, {rate:,} requests/s', 'µs', values)

    half = min(rates['Headcount, recording on']) / 2
    tails = {}
    for _ in range(min(3, options.rounds)):
        for name in chosen[2:]:
            found = load.latencies(proxies[name].port, half, options.seconds)
            tails.setdefault(name, []).append(load.quantile(found, 0.99) / 1000)
    for name, values in tails.items():
        report.extend(f'{name}, p99 latency at {half:,.0f} requests/s', 'ms', values)

    on, off = saturated['Headcount, recording on'], saturated['Headcount, recording off']
    report.ratio('recording on / off, saturated', on, off, '≤ 1.15')
    report.ratio('recording on / off, 100 requests/s', paced[chosen[3], 100], paced[chosen[2], 100], '≤ 1.25')
    report.ratio('recording off / bare Pingora', off, saturated['bare Pingora'], '≤ 1.00')
    report.ratio('recording on / nginx', on, saturated['nginx'], '≤ 2.2')
    report.ratio('recording on / nginx with Lua and Redis', on, saturated['nginx with Lua and Redis'], '≤ 1.0')
    report.ratio('p99 at half load, recording on / off', tails[chosen[3]], tails[chosen[2]], 'within noise')
