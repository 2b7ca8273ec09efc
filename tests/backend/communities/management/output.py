import json

from django.core.serializers.json import DjangoJSONEncoder


class Encoder(DjangoJSONEncoder):
    def default(self, o):
        # In full: Django's own encoder cuts times to milliseconds.
        return o.isoformat() if hasattr(o, 'isoformat') else super().default(o)


def dumps(value):
    return json.dumps(value, cls=Encoder)
