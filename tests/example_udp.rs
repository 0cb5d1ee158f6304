//! examples/udp_echo.rs as its users run it: what it answers, in both styles, to whom and how much.
#![cfg(feature = "green")]
mod support;

use std::net::UdpSocket;
use std::process::Command;
use support::{PATIENCE, Program};

fn client() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("settable");
    socket
}

#[test]
fn both_styles_answer_everybody_from_nothing_to_all_that_fits() {
    for style in ["callback", "green"] {
        let program = Program::example("udp_echo", &["127.0.0.1:0", "--style", style]);
        let address = program.address();
        let (one, other) = (client(), client());
        let mut buffer = vec![0; 65_535];
        for length in [0, 1, 1400, 8193, 65_507] {
            let datagram: Vec<u8> = (0..length).map(|n| n as u8).collect();
            one.send_to(&datagram, address).expect("sent");
            other.send_to(b"other", address).expect("sent");
            let (n, from) = one.recv_from(&mut buffer).expect("an answer");
            assert!(buffer[..n] == datagram, "{style}: {length} bytes came back as {n} others");
            assert_eq!(from, address);
            assert_eq!(other.recv(&mut buffer).expect("an answer"), 5);
        }
        program.interrupt_and_finish();
    }
}

#[test]
fn pythons_client_is_answered() {
    let program = Program::example("udp_echo", &["127.0.0.1:0"]);
    let script = "import socket, sys\n\
                  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(60)\n\
                  s.connect(('127.0.0.1', int(sys.argv[1]))); s.send(b'hello'); print(s.recv(100).decode())";
    let port = program.address().port().to_string();
    let output = Command::new("python3").args(["-c", script, &port]).output().expect("python3 runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "hello");
    program.interrupt();
    let (status, lines, errors) = program.finish();
    assert!(status.success(), "{errors}");
    assert_eq!(lines, ["stopped"]);
}

#[test]
fn wrong_arguments_are_explained() {
    for args in [&[][..], &["nonsense"], &["127.0.0.1:0", "--style", "purple"], &["127.0.0.1:0", "more"]] {
        let (status, output, errors) = Program::example("udp_echo", args).finish();
        assert_eq!(status.code(), Some(2), "{args:?}");
        assert!(errors.contains("usage: udp_echo") && output.is_empty(), "{args:?}: {errors}");
    }
}
