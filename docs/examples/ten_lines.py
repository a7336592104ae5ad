"""A device in ten lines, on the `websockets` package: python ten_lines.py [url] [key]"""

import json, sys, time  # noqa: E401, I001
from websockets.sync.client import connect

url = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:9955/south/v80/sessions/ten-lines"
key = sys.argv[2] if len(sys.argv) > 2 else "any"
with connect(url, additional_headers={"X-ApiKey": key}) as platform:
    datapoint = {"at": time.time_ns() // 1_000_000, "value": 21.5}
    datastream = {"id": "temperature", "datapoints": [datapoint]}
    platform.send(json.dumps({"version": "9.0", "datastreams": [datastream]}).encode())
