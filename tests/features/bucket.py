"""A bucket for tests: as much of the storage service's JSON interface as stores need."""

import http.server
import json
import threading
import urllib.parse


class Bucket:
    """Objects by name, served over HTTP on this machine until closed."""

    def __init__(self):
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        bucket = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                path, query = bucket.parse("GET", self.path)
                name = path.partition("/o/")[2]
                if not path.endswith("/o"):
                    found = bucket.objects.get(name)
                    self.answer(404 if found is None else 200, found or b"")
                    return
                prefix = query.get("prefix", [""])[0]
                names = sorted(each for each in bucket.objects if each.startswith(prefix))
                items = [bucket.describe(each) for each in names]
                self.answer(200, json.dumps({"items": items}).encode())

            def do_POST(self):
                _, query = bucket.parse("POST", self.path)
                content = self.rfile.read(int(self.headers["Content-Length"]))
                bucket.objects[query["name"][0]] = content
                self.answer(200, json.dumps(bucket.describe(query["name"][0])).encode())

            def answer(self, status, content):
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("x-goog-generation", "1")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def parse(self, method, target):
        url = urllib.parse.urlsplit(target)
        self.requests.append(f"{method} {target}")
        return urllib.parse.unquote(url.path), urllib.parse.parse_qs(url.query)

    def describe(self, name):
        size = str(len(self.objects[name]))
        moment = "2020-01-01T00:00:00.000Z"
        return {
            **{"name": name, "bucket": "bucket", "size": size, "generation": "1"},
            **{"metageneration": "1", "timeCreated": moment, "updated": moment},
            **{"etag": "e", "md5Hash": "", "crc32c": "", "storageClass": "STANDARD"},
        }

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
