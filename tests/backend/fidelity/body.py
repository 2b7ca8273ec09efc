import hashlib

from fidelity import gates


def chunks(request, size=65536):
    """The request's body as it comes. Not through `request`, because Django takes a body
    without Content-Length, as chunked ones are, for empty."""
    stream = request.META['wsgi.input']
    while data := stream.read(size):
        yield data


def digest(request):
    sha256, length = hashlib.sha256(), 0
    for number, data in enumerate(chunks(request)):
        if number == 0:
            gates.opens(request)
        sha256.update(data)
        length += len(data)
    return length, sha256.hexdigest()
