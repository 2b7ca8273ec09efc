"""A proxied page: CPU of the proxy's process per request, saturated and at steady rates, and latency at half load."""

from .. import load, picture as pictures
from ..measure import Used
from ..proxies import OFF

TITLE = 'A proxied page view (280 bytes), CPU of the proxy per request'
PICTURE = 'CPU of the proxy per request'
LIMIT = 270

ON, WITHOUT = 'Headcount, recording on', 'Headcount, recording off'
PGO_ON, PGO_WITHOUT = 'Headcount, profile-guided, recording on', 'Headcount, profile-guided, recording off'
SATURATED = ', saturated'
UNKNOWN = f'{ON}, 100 requests/s, sessions not yet known'


def run(world, report, options):
    world.redis.sessions()
    proxies = {
        'nginx': world.nginx(),
        'HAProxy': world.haproxy(),
        'nginx with Lua and Redis': world.nginx_lua(),
        'bare Pingora': world.bare_pingora(),
        WITHOUT: world.headcount(record=OFF),
        ON: world.headcount(),
    }
    recording = [ON]
    if world.pgo:
        proxies[PGO_WITHOUT] = world.headcount(record=OFF, binary=world.pgo)
        proxies[PGO_ON] = world.headcount(binary=world.pgo)
        recording.append(PGO_ON)
    for proxy in proxies.values():
        load.saturate(proxy.port, 1)

    saturated, rates = {}, {}
    for _ in range(options.rounds):
        for name, proxy in proxies.items():
            # Postgres and Redis work only for those that record; what they cost per view is a row of its own.
            with Used(proxy, world.postgres, world.redis) as used:
                requests = load.saturate(proxy.port, options.seconds)
                if name in recording:
                    proxy.drained()
            saturated.setdefault(name, []).append(used.each[0] / requests * 1e6)
            rates.setdefault(name, []).append(requests / options.seconds)
            if name == ON:
                report.add('Postgres for recording', 'µs', used.each[1] / requests * 1e6)
                report.add('Redis for recording', 'µs', used.each[2] / requests * 1e6)
    for name, values in saturated.items():
        report.extend(f'{name}{SATURATED}', 'µs', values)
    report.extend('requests per second, saturated, recording on', '', rates[ON])

    # Others from here on: what those have written in the saturated rounds they delete half a minute later.
    for name in (WITHOUT, *recording):
        world.stack.stop(proxies[name])
    if world.pgo:
        world.stack.stop(proxies[PGO_WITHOUT])
    proxies[WITHOUT] = world.headcount(record=OFF)

    # Each request of somebody whose session is looked up for it.
    for _ in range(min(3, options.rounds)):
        proxies[ON] = world.headcount()
        with Used(proxies[ON]) as used:
            requests = load.paced(proxies[ON].port, 100, 5)
        report.add(UNKNOWN, 'µs', used.seconds / requests * 1e6)
        world.stack.stop(proxies[ON])
    proxies[ON] = world.headcount()

    paced = {}
    chosen = ['nginx', 'bare Pingora', WITHOUT, ON]
    for rate, seconds in ((100, 5), (1_000, 2)):
        for _ in range(min(3, options.rounds)):
            for name in chosen:
                # Sessions are in the cache: what looking them up takes is a row of its own.
                load.known(proxies[name].port)
                if name == ON:
                    proxies[ON].drained()
                with Used(proxies[name]) as used:
                    requests = load.paced(proxies[name].port, rate, seconds)
                paced.setdefault((name, rate), []).append(used.seconds / requests * 1e6)
    for (name, rate), values in paced.items():
        report.extend(f'{name}, {rate:,} requests/s', 'µs', values)

    half = min(rates[ON]) / 2
    tails = {}
    for _ in range(options.rounds):
        for name in (WITHOUT, ON):
            found = load.latencies(proxies[name].port, half, options.seconds)
            tails.setdefault(name, []).append(load.quantile(found, 0.99) / 1000)
    for name, values in tails.items():
        report.extend(f'{name}, p99 latency at {half:,.0f} requests/s', 'ms', values)

    report.ratio('recording on / off, CPU per request, saturated', saturated[ON], saturated[WITHOUT], '≤ 1.15')
    report.ratio('recording on / off, CPU per request, 100 requests/s', paced[ON, 100], paced[WITHOUT, 100], '≤ 1.25')
    report.ratio('recording off / bare Pingora', saturated[WITHOUT], saturated['bare Pingora'], '≤ 1.00')
    if world.pgo:
        report.ratio('profile-guided / plain, recording off', saturated[PGO_WITHOUT], saturated[WITHOUT])
        report.ratio('profile-guided / plain, recording on', saturated[PGO_ON], saturated[ON])
        report.ratio('profile-guided, recording off / bare Pingora', saturated[PGO_WITHOUT], saturated['bare Pingora'], '≤ 1.00')
        report.ratio('profile-guided, recording on / off', saturated[PGO_ON], saturated[PGO_WITHOUT], '≤ 1.15')
        report.ratio('profile-guided, recording on / nginx', saturated[PGO_ON], saturated['nginx'], '≤ 2.5')
    report.ratio('recording on / nginx', saturated[ON], saturated['nginx'], '≤ 2.5')
    report.ratio('recording on / nginx with Lua and Redis', saturated[ON], saturated['nginx with Lua and Redis'], '≤ 1.0')
    report.ratio('p99 latency at half load, recording on / off', tails[ON], tails[WITHOUT], '≤ 1.1')


def picture(report):
    """The saturated proxies."""
    rows = {name.removesuffix(SATURATED): figure.values for name, figure in report.rows.items()
            if name.endswith(SATURATED) and figure.unit == 'µs'}
    return pictures.bars('CPU of the proxy per request, saturated, in µs (bar: median; line: smallest to largest)', rows)
