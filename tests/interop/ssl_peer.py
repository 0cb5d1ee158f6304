"""Lines over TLS with Python's own ssl module: `ssl_peer.py serve CERT KEY` or `talk PORT CA [plain]`.

The server prints its port and echoes lines until the peer's close_notify, which it checks for. The client sends the lines
below, checks that each comes back, and closes in order; it prints what was agreed on.
"""
import socket
import ssl
import sys

LINES = [bytes(97 + (size + i) % 26 for i in range(size)) + b"\r\n" for size in [1, 80, 4096, 16000, *range(2, 60)]]


def serve(cert, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["lines"])
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        plain, _ = listener.accept()
        try:
            stream = context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False)
            while data := stream.recv(65536):
                stream.sendall(data)
            stream.unwrap()
            print("closed in order", flush=True)
        except (OSError, ssl.SSLError) as error:
            print(f"failed {error!r}", flush=True)


def talk(port, ca):
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["lines"])
    plain = socket.create_connection(("127.0.0.1", port), timeout=30)
    stream = context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
    sent = b"".join(LINES)
    stream.sendall(sent)
    got = b""
    while len(got) < len(sent):
        data = stream.recv(65536)
        assert data, f"the end after {len(got)} of {len(sent)} bytes"
        got += data
    assert got == sent
    version, protocol = stream.version(), stream.selected_alpn_protocol()
    stream.unwrap().close()
    print(f"ok {len(LINES)} {version} {protocol}", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        talk(int(sys.argv[2]), *sys.argv[3:])
