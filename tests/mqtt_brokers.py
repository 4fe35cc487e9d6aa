"""MQTT brokers on loopback: amqtt inside the test's process, Mosquitto beside it.

amqtt speaks 3.1.1 only, and forgets what was not acknowledged when its receiver leaves; what waits for an absent
receiver it keeps. So what a kill must not lose is tried with Mosquitto.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from amqtt.broker import Broker
from amqtt.plugins.base import BaseAuthPlugin
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt import client as mqtt

USER, PASSWORD = "plant", "s3cret-word"


class Passwords(BaseAuthPlugin):
    """Lets in who knows the password; a session of nobody in particular is not kept."""

    async def authenticate(self, *, session):
        return (session.username, session.password) == (USER, PASSWORD)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Publisher:
    """What all brokers here can do: take messages of a test."""

    port: int
    version = "5"

    def publish(self, topic, *payloads, retain=False, qos=1):
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        client.username_pw_set(USER, PASSWORD)
        client.max_inflight_messages_set(1000)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        sent = [client.publish(topic, payload, qos=qos, retain=retain) for payload in payloads]
        for one in sent:
            one.wait_for_publish(20)
        client.disconnect()
        client.loop_stop()


class Amqtt(Publisher):
    version = "3.1.1"

    def __init__(self):
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._broker = self._run(self._start())

    def stop(self):
        self._run(self._broker.shutdown())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self):
        listener = {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}
        broker = Broker({"listeners": {"default": listener}, "plugins": {"mqtt_brokers.Passwords": {}}})
        await broker.start()
        return broker

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)


class Mosquitto(Publisher):
    def __init__(self, folder, *settings):
        self._folder = folder
        self.port = free_port()
        known = folder / "passwords"
        subprocess.run(["mosquitto_passwd", "-c", "-b", known, USER, PASSWORD], check=True, capture_output=True)
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous false", f"password_file {known}", "user root"]
        (folder / "mosquitto.conf").write_text("\n".join([*lines, "max_queued_messages 0", *settings, ""]))
        self.start()

    def start(self):
        command = [_mosquitto(), "-c", self._folder / "mosquitto.conf"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("mosquitto does not listen")

    def stop(self):
        self._process.terminate()
        self._process.wait(10)


def certified(folder):
    """A certificate of 127.0.0.1 that vouches for itself, and its key: two files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    now = datetime.now(UTC)
    built = built.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = built.add_extension(address, critical=False).sign(key, hashes.SHA256())
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "broker.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "broker.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return folder / "broker.crt", folder / "broker.key"


def _mosquitto():
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def mosquitto(folder, *settings):
    """A Mosquitto, or the test is skipped, with a line that says so (it fails where RNNFORECAST_REQUIRE names it)."""
    if _mosquitto() is None:
        missing = "needs the broker mosquitto, which is not installed: apt-get install mosquitto"
        if "mosquitto" in os.environ.get("RNNFORECAST_REQUIRE", ""):
            pytest.fail(missing)
        pytest.skip(missing)
    return Mosquitto(folder, *settings)
