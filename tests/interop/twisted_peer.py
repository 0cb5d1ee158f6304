"""One side of a conversation, in Twisted: `twisted_peer.py serve KIND [CERT KEY]` or `talk KIND PORT [CA]`.

KIND is line, netstring, int32, tls, starttls, proxy1 or proxy2. A server prints its port, then echoes every message for as
long as it runs; behind a PROXY header it says first whom it takes the peer for. A client sends the messages below, checks
that each comes back, closes, and prints `ok` and how many there were.
"""
import struct
import sys

from twisted.internet import endpoints, protocol, reactor, ssl
from twisted.internet.task import react
from twisted.internet.defer import Deferred
from twisted.protocols import basic
from twisted.python import log

log.startLogging(sys.stderr, setStdout=False)

SIZES = [1, 2, 79, 80, 81, 1000, 4095, 4096, 4097, 16000, 16384, 7] + list(range(3, 60))
# Lines have no empty message at the end of a conversation to wait for; the others echo the empty one too.
EMPTY_TOO = {"netstring", "int32"}


def messages(kind):
    sizes = SIZES + ([0, 99_999, 0] if kind in EMPTY_TOO else [])
    return [bytes(97 + (size + i) % 26 for i in range(size)) for size in sizes]


def receiver(kind):
    return {"netstring": basic.NetstringReceiver, "int32": basic.Int32StringReceiver}.get(kind, basic.LineReceiver)


def protocol_of(kind, got):
    """A protocol of this kind that calls `got(protocol, message)`."""
    base = receiver(kind)

    class Peer(base):
        MAX_LENGTH = 99_999 if kind in EMPTY_TOO else 16_384

        def send(self, message):
            (self.sendLine if base is basic.LineReceiver else self.sendString)(message)

        def lineReceived(self, line):
            got(self, line)

        def stringReceived(self, string):
            got(self, string)

    return Peer


def serve(kind, cert=None, key=None):
    context = ssl.DefaultOpenSSLContextFactory(key, cert) if cert else None

    def got(peer, message):
        if kind == "starttls" and message == b"STARTTLS":
            peer.send(b"220 go ahead")
            peer.transport.startTLS(context)
        elif kind.startswith("proxy") and message == b"WHO":
            address = peer.transport.getPeer()
            peer.send(f"{address.host} {address.port}".encode())
        else:
            peer.send(message)

    description = {"tls": f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={cert}"}.get(kind, "tcp:0:interface=127.0.0.1")
    if kind.startswith("proxy"):
        description = "haproxy:" + description
    factory = protocol.Factory.forProtocol(protocol_of(kind, got))

    def listening(port):
        print(port.getHost().port, flush=True)

    endpoints.serverFromString(reactor, description).listen(factory).addCallbacks(listening, fail)
    reactor.run()


def fail(failure):
    failure.printTraceback()
    import os

    os._exit(1)


def proxy_header(kind):
    if kind == "proxy1":
        return b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 25\r\n"
    body = bytes([203, 0, 113, 7, 198, 51, 100, 1]) + struct.pack("!HH", 4711, 25)
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x21, 0x11]) + struct.pack("!H", len(body)) + body


def talk(kind, port, ca=None):
    def main(reactor):
        done = Deferred()
        expected = messages(kind)
        state = {"at": 0, "begun": kind not in ("starttls", "proxy1", "proxy2")}
        authority = ssl.Certificate.loadPEM(open(ca, "rb").read()) if ca else None
        options = ssl.optionsForClientTLS("localhost", trustRoot=authority) if ca else None

        def begin(peer):
            state["begun"] = True
            for message in expected:
                peer.send(message)

        def got(peer, message):
            if not state["begun"]:
                if kind == "starttls":
                    assert message == b"220 go ahead", message
                    peer.transport.startTLS(options)
                else:
                    assert message == b"203.0.113.7 4711", message
                return begin(peer)
            want = expected[state["at"]]
            assert message == want, (state["at"], message[:40], want[:40])
            state["at"] += 1
            if state["at"] == len(expected):
                peer.transport.loseConnection()

        class Client(protocol_of(kind, got)):
            def connectionMade(self):
                if kind == "starttls":
                    self.send(b"STARTTLS")
                elif kind.startswith("proxy"):
                    self.transport.write(proxy_header(kind))
                    self.send(b"WHO")
                else:
                    begin(self)

            def connectionLost(self, reason):
                if state["at"] == len(expected):
                    print(f"ok {state['at']}", flush=True)
                    done.callback(None)
                else:
                    done.errback(reason)

        endpoint = endpoints.HostnameEndpoint(reactor, "127.0.0.1", port, timeout=10)
        if kind == "tls":
            endpoint = endpoints.wrapClientTLS(options, endpoint)
        endpoint.connect(protocol.Factory.forProtocol(Client)).addErrback(done.errback)
        done.addTimeout(30, reactor)
        return done

    react(lambda reactor: main(reactor))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        talk(sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
