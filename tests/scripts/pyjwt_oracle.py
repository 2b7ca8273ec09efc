"""Makes a JWT of each described case, and says whether PyJWT accepts it. Reads and writes JSON files."""
import base64
import hashlib
import hmac
import json
import sys
from datetime import datetime, timezone

import jwt
import jwt.api_jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

NOW = 1_700_000_000
SECRETS = ['a secret that site and sidecar share', 'another secret of the same kind as that']


class Clock(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.fromtimestamp(NOW, tz or timezone.utc)


jwt.api_jwt.datetime = Clock

PRIVATE = {
    'RS256': [rsa.generate_private_key(65537, 2048) for _ in range(2)],
    'ES256': [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)],
}


def public_pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def signing_key(algorithm, number):
    return SECRETS[number] if algorithm == 'HS256' else PRIVATE[algorithm][number]


def verifying_key(algorithm):
    return SECRETS[0] if algorithm == 'HS256' else PRIVATE[algorithm][0].public_key()


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b'=').decode()


def by_hand(header, claims, sign):
    text = f'{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}'
    return f'{text}.{b64(sign(text.encode()))}'


def encode(claims, key, algorithm):
    """Also of claims that PyJWT itself would not write."""
    return jwt.PyJWS().encode(json.dumps(claims).encode(), key, algorithm)


def make(case):
    algorithm, claims = case['algorithm'], case['claims']
    trick = case['trick']
    if trick == 'none':
        return by_hand({'alg': case['none']}, claims, lambda text: b'')
    if trick == 'confusion':
        # Signed by HMAC with the public key for a secret.
        key = public_pem(PRIVATE[algorithm][0]) if algorithm != 'HS256' else b''
        return by_hand({'alg': 'HS256'}, claims, lambda text: hmac.new(key, text, hashlib.sha256).digest())
    key = signing_key(algorithm, 1 if trick == 'other_key' else 0)
    token = encode(claims, key, algorithm)
    if trick == 'other_algorithm' and algorithm == 'HS256':
        token = encode(claims, key, 'HS384')
    if trick == 'flip':
        at = case['place'] % len(token)
        # Of the last character of a part, some bits mean nothing, which Python takes and others do not.
        if at + 1 == len(token) or token[at + 1] == '.':
            at -= 1
        other = 'A' if token[at] != 'A' else 'Q'
        token = token[:at] + other + token[at + 1:]
    if trick == 'cut':
        token = token[:case['place'] % len(token)]
    if trick == 'swap':
        parts = token.split('.')
        parts[1] = b64(json.dumps({**claims, 'user_id': 8}).encode())
        token = '.'.join(parts)
    return token


def accepts(token, case):
    """As djangorestframework-simplejwt: required `exp` and user, and only access tokens."""
    options = {'require': ['exp'] + (['iss'] if case['issuer'] else []) + (['aud'] if case['audience'] else []),
               'verify_iat': False, 'verify_sub': False, 'verify_jti': False}
    try:
        claims = jwt.decode(
            token, verifying_key(case['algorithm']), algorithms=[case['algorithm']],
            issuer=case['issuer'] or None, audience=case['audience'] or None,
            leeway=case['leeway'], options=options)
    except jwt.PyJWTError:
        return False
    return claims.get('token_type', 'access') == 'access' and 'user_id' in claims


cases = json.load(open(sys.argv[1]))
told = []
for case in cases:
    token = make(case)
    told.append({'jwt': token, 'accepted': accepts(token, case)})
json.dump({
    'secret': SECRETS[0],
    'RS256': public_pem(PRIVATE['RS256'][0]).decode(),
    'ES256': public_pem(PRIVATE['ES256'][0]).decode(),
    'told': told,
}, open(sys.argv[2], 'w'))
