"""Runs the Dockerfile's own health check against a server that is well, one that is ill, and none."""

import http.server
import json
import pathlib
import re
import subprocess
import sys
import threading


class Server(http.server.HTTPServer):
    status = 200


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(self.server.status if self.path == "/livez" else 400)
        self.end_headers()

    def log_message(self, *_):
        pass


text = pathlib.Path(sys.argv[1]).read_text()
command = json.loads(re.search(r"^HEALTHCHECK .*?CMD (\[.*?\])$", text, re.M | re.S)[1])
server = Server(("127.0.0.1", 0), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
port = str(server.server_port)


def is_well():
    parts = [part.replace("9464", port) for part in command]
    return subprocess.run(parts, timeout=5, stderr=subprocess.DEVNULL).returncode == 0


well = is_well()
server.status = 503
ill = is_well()
server.shutdown()
server.server_close()
gone = is_well()
if (well, ill, gone) != (True, False, False):
    sys.exit(f"said to be well: with 200 {well}, with 503 {ill}, without a server {gone}")
