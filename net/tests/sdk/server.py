"""One running pyrite, for proofs with real clients: started on a free port, asked over HTTP, killed or stopped."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
CPU = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
READY_SECONDS = 60
STOP_SECONDS = 30


def server_binary(named):
    """The binary that an option names, or the release build."""
    server = pathlib.Path(named or TARGET / "release" / "pyrite").resolve()
    if not server.is_file():
        sys.exit(f"no server at {server}: build it with `cargo build --release`, or name it with --server")
    return server


class Server:
    """One running pyrite on a data directory. Leaving the block kills it if it still runs."""

    def __init__(self, binary, data):
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        flags = [
            "-target=all",
            f"-data.path={data}/data",
            f"-runtime={os.environ.get('PYRITE_RUNTIME') or 'auto'}",
            "-server.http-listen-address=127.0.0.1",
            f"-server.http-listen-port={port}",
            # Captured requests are older than the hour that is taken by default, and so are the questions about them.
            "-validation.reject-older-than=0",
            "-querier.max-query-lookback=0",
            "-querier.max-query-length=0",
            "-distributor.ingestion-rate-limit-mb=1000",
            "-distributor.ingestion-burst-size-mb=1000",
        ]
        self.log = open(pathlib.Path(data) / "log", "ab")
        self.process = subprocess.Popen([binary, *flags], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            print(pathlib.Path(self.log.name).read_text(errors="replace")[-4000:])
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.log.close()

    def wait_ready(self):
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            check(self.process.poll() is None, f"the server ended with {self.process.returncode}")
            with contextlib.suppress(OSError):
                if http(self.address + "/ready")[0] == 200:
                    return
            time.sleep(0.1)
        raise AssertionError(f"the server is not ready after {READY_SECONDS} s")

    def rpc(self, method, request):
        url = f"{self.address}/querier.v1.QuerierService/{method}"
        status, body = http(url, json.dumps(request).encode(), {"content-type": "application/json"})
        check(status == 200, f"{method}: {status} {body.decode(errors='replace')}")
        return json.loads(body)

    def flame_graph(self, service, window, profile_type=CPU):
        request = {"profileTypeID": profile_type, "labelSelector": f'{{service_name="{service}"}}', "maxNodes": 1 << 20, **window}
        graph = self.rpc("SelectMergeStacktraces", request).get("flamegraph", {})
        check(int(graph.get("total", 0)) > 0, f"{service} {profile_type}: the flame graph is empty")
        return graph

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=STOP_SECONDS)
        check(code == 0, f"the server ended with {code} on SIGTERM")


def http(url, body=None, headers=None):
    request = urllib.request.Request(url, data=body, headers=headers or {}, method="GET" if body is None else "POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def now_ms():
    return int(time.time() * 1000)


def check(holds, otherwise):
    if not holds:
        raise AssertionError(otherwise)
