"""Writes a small database of places in MaxMind's format: argument 1 is the file."""
import sys

from mmdb_writer import MMDBWriter
from netaddr import IPSet

writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type='Test-City', languages=['en'])
writer.insert_network(
    IPSet(['203.0.113.0/24']),
    {
        'country': {'iso_code': 'NZ', 'names': {'en': 'New Zealand'}},
        'subdivisions': [{'iso_code': 'WGN', 'names': {'en': 'Wellington Region'}}],
        'city': {'names': {'en': 'Wellington'}},
    },
)
writer.insert_network(IPSet(['198.51.100.0/24']), {'country': {'iso_code': 'IS', 'names': {'en': 'Iceland'}}})
writer.to_db_file(sys.argv[1])
