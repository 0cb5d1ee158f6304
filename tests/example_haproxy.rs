//! A server behind a PROXY header, asked by curl and by hand.
mod support;
use std::io::{Read, Write};
use std::net::SocketAddr;
use support::{Program, curl, dial};

/// What the server answers to bytes written in pieces.
fn ask(at: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut stream = dial(at);
    for piece in pieces {
        stream.write_all(piece).expect("sent");
        stream.flush().expect("sent");
    }
    let mut answer = String::new();
    // A refused connection may be reset.
    let _ = stream.read_to_string(&mut answer);
    answer
}
const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

#[test]
fn clients_behind_a_proxy_are_known_by_their_own_address() {
    let server = Program::example("haproxy_server", &["haproxy:tcp:0:interface=127.0.0.1"]);
    let at = server.address();

    let answer = ask(at, &[b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n", REQUEST]);
    assert!(
        answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nyou are 192.0.2.7:4711\n"),
        "{answer:?}"
    );
    assert_eq!(server.line(), "192.0.2.7:4711 has connected to 198.51.100.1:80");
    assert_eq!(server.line(), "192.0.2.7:4711 asks GET / HTTP/1.0");

    // Version 2, whatever the pieces it comes in.
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    header.extend_from_slice(&"2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
    header.extend_from_slice(&std::net::Ipv6Addr::LOCALHOST.octets());
    header.extend_from_slice(&[0x12, 0x67, 0, 80]);
    let answer = ask(at, &[&header[..5], &header[5..17], &[&header[17..], REQUEST].concat()]);
    assert!(answer.ends_with("you are [2001:db8::7]:4711\n"), "{answer:?}");
    assert_eq!(server.line(), "[2001:db8::7]:4711 has connected to [::1]:80");

    // Who comes around the proxy gets no answer, and the server goes on.
    assert_eq!(ask(at, &[REQUEST]), "");
    assert!(ask(at, &[b"PROXY UNKNOWN\r\n", REQUEST]).contains("you are 127.0.0.1:"));
    server.interrupt_and_finish();
}

#[test]
fn curl_speaks_to_it() {
    let server = Program::example("haproxy_server", &["haproxy:tcp:0:interface=127.0.0.1"]);
    let url = format!("http://{}/", server.address());
    let (status, text, errors) = curl(&["--haproxy-protocol", &url]);
    assert_eq!(status, Some(0), "{errors}");
    assert!(text.starts_with("you are 127.0.0.1:"), "{text}");
    let asked = server.line_with(" asks ");
    assert!(asked.ends_with(" asks GET / HTTP/1.1"), "{asked}");
    assert!(
        text.trim_end().ends_with(asked.split(' ').next().unwrap()),
        "the address that curl has given: {text} {asked}"
    );
}

#[test]
fn a_description_that_means_nothing_is_explained() {
    for (text, told) in [
        ("haproxy:tcp:http", "\n              ^^^^"),
        ("haproxy:unix:/no/such/folder/x", "cannot listen at /no/such/folder/x"),
    ] {
        let server = Program::example("haproxy_server", &[text]);
        let (status, _, errors) = server.finish();
        assert_eq!(status.code(), Some(1));
        assert!(errors.contains(told), "{errors}");
    }
}
