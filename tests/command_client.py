"""Has the command server run a command, with the arguments, folder, environment and streams that this process has.

python -S -E command_client.py SOCKET PROGRAM [WORD ...]
python -S -E command_client.py SOCKET -c CODE [WORD ...]
"""

import json
import os
import socket
import sys

OF_THE_INTERPRETER = {"LD_PRELOAD", "PYTHONPATH"}
"""Variables that are read when an interpreter starts: with them a command takes one of its own."""


def run(path: str, words: list[str]) -> int:
    """Return the exit code of a command."""
    if OF_THE_INTERPRETER & os.environ.keys():
        os.execv(sys.executable, [sys.executable, *words])
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        call = json.dumps({"words": words, "folder": os.getcwd(), "env": dict(os.environ)}).encode()
        socket.send_fds(server, [b"%8d" % len(call)], [0, 1, 2])
        server.sendall(call)
        return int(server.recv(8))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
