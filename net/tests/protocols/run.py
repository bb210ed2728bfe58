#!/usr/bin/env python3
"""Starts a server and lets the Go program beside this file prove that every protocol gives the same answers.

    python3 net/tests/protocols/run.py [--server target/release/pyrite]

Needs Python; Go is the machine's, or comes into the target directory. Where neither Go nor the modules can be had it says so
and is skipped.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "sdk"))

import toolchain  # noqa: E402
from server import TARGET, Server, check, server_binary  # noqa: E402

BUILD_SECONDS = 600
PROOF_SECONDS = 300


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--server", help="the pyrite binary (default: the release build)")
    server = server_binary(parser.parse_args().server)
    program = built()
    if program is None:
        return
    with tempfile.TemporaryDirectory(prefix="pyrite-protocols-") as data, Server(server, data) as running:
        proof = subprocess.run([program, running.address], capture_output=True, text=True, timeout=PROOF_SECONDS)
        lines = proof.stdout.splitlines()
        for line in lines:
            if not line.startswith("ok "):
                print(line)
        check(proof.returncode == 0, f"the proof failed:\n{proof.stderr}")
        running.stop()


def built():
    """The Go program, or None where it cannot be built."""
    go = toolchain.go()
    if go is None:
        print("skipped: no Go here, and none could be installed")
        return None
    environment = toolchain.go_environment()
    fetched = subprocess.run([go, "mod", "download"], cwd=HERE, env=environment, timeout=BUILD_SECONDS, capture_output=True, text=True)
    if fetched.returncode != 0:
        print(f"skipped: the Go modules cannot be fetched here: {fetched.stderr.strip()[-500:]}")
        return None
    program = (TARGET / "protocols").resolve()
    subprocess.run([go, "build", "-o", program, "."], cwd=HERE, env=environment, timeout=BUILD_SECONDS, check=True)
    return program


if __name__ == "__main__":
    main()
