#!/usr/bin/env python3
"""The proof with real agents: the Python SDK pushes, the flame graph names the hot functions, and a server that was
killed and started again draws the same one. Then the captured requests of other agents, where the corpus is at hand.

    python3 net/tests/sdk/run.py [--server target/release/pyrite] [--seconds 20]

Needs nothing but Python: the SDK goes into a virtual environment under the target directory. Where the package index
cannot be reached the first part says so and is skipped.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SDK = "pyroscope-io"
APPLICATION = "sdk.proof"
HOT_FUNCTIONS = ("hot_fib", "hot_sort")
CPU = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
READY_SECONDS = 60
STOP_SECONDS = 30


def main():
    options = arguments()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    server = pathlib.Path(options.server or target / "release" / "pyrite").resolve()
    if not server.is_file():
        sys.exit(f"no server at {server}: build it with `cargo build --release`, or name it with --server")
    python = sdk_python(target / "sdk-venv")
    if python:
        prove_restart(server, python, options.seconds)
    else:
        print(f"skipped: {SDK} cannot be installed here, the package index was not reached")
    captures = captures_folder()
    if captures:
        replay_captures(server, captures)
    else:
        print("skipped: no captured requests of other agents here")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--server", help="the pyrite binary (default: the release build)")
    parser.add_argument("--seconds", type=float, default=20, help="how long the profiled program runs")
    return parser.parse_args()


# ---- the SDK ---------------------------------------------------------------------------------------------------------


def sdk_python(venv):
    """The interpreter of a virtual environment with the SDK in it, or None where it cannot be had."""
    python = venv / "bin" / "python"
    if python.is_file() and subprocess.run([python, "-c", "import pyroscope"], capture_output=True).returncode == 0:
        return python
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True, timeout=120)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", SDK], check=True, timeout=300)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"{SDK}: {error}")
        return None
    return python


def prove_restart(server, python, seconds):
    with tempfile.TemporaryDirectory(prefix="pyrite-sdk-") as data:
        with Server(server, data) as first:
            start_ms = now_ms() - 60_000
            print(f"the SDK profiles a program for {seconds:g} s")
            subprocess.run([python, HERE / "program.py", first.address, APPLICATION, str(seconds)], check=True, timeout=seconds + 60)
            window = {"start": start_ms, "end": now_ms() + 60_000}
            before = first.flame_graph(APPLICATION, window)
            check_hot_functions(before, seconds)
            first.kill()
        with Server(server, data) as second:
            after = second.flame_graph(APPLICATION, window)
            check(paths(after) == paths(before), f"the flame graph changed over a kill:\n{before}\n{after}")
            second.stop()
    print(f"ok: killed and started again, the same flame graph: {before['total']} ns, {len(before['names'])} names")


def check_hot_functions(graph, seconds):
    own = self_values(graph)
    total = int(graph["total"])
    for name in HOT_FUNCTIONS:
        found = sum(value for function, value in own.items() if name in function)
        check(found > 0, f"{name} is not in the flame graph: {sorted(own)}")
        print(f"  {name}: {found / total:.0%} of the samples")
    hot = sum(value for function, value in own.items() if any(name in function for name in (*HOT_FUNCTIONS, "<lambda>")))
    check(hot > total / 2, f"the hot functions have {hot} of {total} ns")
    # A busy machine gives the program less than a core; a tenth of the time is proof enough that windows were not lost.
    check(total > seconds * 1e9 / 10, f"{total} ns in {seconds} s")


def self_values(graph):
    """Self value by function: levels hold (offset, total, self, name) of every node."""
    own = {}
    for level in graph["levels"]:
        values = [int(v) for v in level["values"]]
        for i in range(0, len(values), 4):
            name = graph["names"][values[i + 3]]
            own[name] = own.get(name, 0) + values[i + 2]
    return own


def paths(graph):
    """(total, self) by path of names from the root: what a flame graph says, whatever the order of its tables."""
    found, parents = {}, [(0, int(graph["total"]) + 1, "")]
    for level in graph["levels"]:
        values = [int(v) for v in level["values"]]
        nodes, x, parent = [], 0, 0
        for i in range(0, len(values), 4):
            offset, total, own, name = values[i : i + 4]
            x += offset
            while x >= parents[parent][1]:
                parent += 1
            path = f"{parents[parent][2]};{graph['names'][name]}"
            found[path] = (total, own)
            nodes.append((x, x + total, path))
            x += total
        parents = nodes
    return found


# ---- captured requests ---------------------------------------------------------------------------------------------


def captures_folder():
    shared = pathlib.Path(os.environ.get("PYRITE_SHARED", "../shared"))
    folder = (ROOT / shared) / "corpus" / "captures"
    return folder if folder.is_dir() else None


def replay_captures(server, captures):
    """Every request that an agent sent to a path served here is taken, and each service has its functions."""
    with tempfile.TemporaryDirectory(prefix="pyrite-captures-") as data, Server(server, data) as running:
        services, taken = set(), 0
        for meta in sorted(captures.glob("pyroscope*/*.json")):
            request = json.loads(meta.read_text())
            headers = {name: value for name, value in request["headers"] if name.startswith("content-") and name != "content-length"}
            status, body = http(running.address + request["target"], meta.with_suffix(".body").read_bytes(), headers)
            check(status == 200, f"{meta.parent.name}/{meta.stem}: {status} {body.decode(errors='replace')}")
            taken += 1
        window = {"start": 1, "end": now_ms() + 60_000}
        for service in running.rpc("LabelValues", {"name": "service_name", **window}).get("names", []):
            services.add(service)
            types = running.rpc("Series", {"matchers": [f'{{service_name="{service}"}}'], "labelNames": ["__profile_type__"], **window})
            kinds = {pair["value"] for labels in types["labelsSet"] for pair in labels["labels"]}
            for kind in kinds:
                graph = running.flame_graph(service, window, kind)
                check(len(graph["names"]) > 3, f"{service} {kind}: only {graph['names']}")
        check(len(services) >= 4, f"services: {services}")
        running.stop()
    print(f"ok: {taken} captured requests of other agents were taken; services: {', '.join(sorted(services))}")


# ---- the server ----------------------------------------------------------------------------------------------------


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


if __name__ == "__main__":
    main()
