//! The forwarders, green and in callbacks, between curl, python3 -m http.server and raw sockets.
mod support;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use support::{Noise, PATIENCE, Program, SIZES, closed_port, curl, dial, folder, noise_file, serve, sha256};

/// 30 MB resident, in KiB.
const MEMORY: u64 = 30_000;

fn forwarder(name: &str, to: std::net::SocketAddr) -> Program {
    Program::example(name, &["127.0.0.1:0", &to.ip().to_string(), &to.port().to_string()])
}

fn files_arrive_identical(name: &str) {
    let folder = folder(name);
    let (_server, origin) = Program::file_server(&folder);
    let forwarder = forwarder(name, origin);
    let at = forwarder.address();
    for size in SIZES {
        let (file, received) = (noise_file(&folder, size), folder.join("received"));
        let (code, _, errors) = curl(&["-f", "-o", &received.to_string_lossy(), &format!("http://{at}/{size}")]);
        assert_eq!(code, Some(0), "{name}, {size} bytes: {errors}");
        // An empty body leaves no file with some versions of curl.
        let digest = if received.exists() { sha256(&received) } else { sha256(&noise_file(&folder, 0)) };
        assert_eq!(digest, sha256(&file), "{name}, {size} bytes");
        let _ = std::fs::remove_file(received);
        std::fs::remove_file(file).expect("was written");
    }
    assert!(forwarder.memory("VmHWM") < MEMORY, "{name} took {} KiB", forwarder.memory("VmHWM"));
    forwarder.interrupt_and_finish();
}

/// Sends noise, and says so once when the receiver has held it back for a while.
fn send_until_held_back(mut stream: TcpStream, length: u64, held_back: &Sender<u64>) {
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("settable");
    let (mut noise, mut chunk, mut sent, mut told) = (Noise::new(length), vec![0; 1 << 16], 0, false);
    loop {
        let n = noise.read(&mut chunk).expect("noise never fails");
        if n == 0 {
            return;
        }
        let mut rest = &chunk[..n];
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(n) => (rest, sent) = (&rest[n..], sent + n as u64),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    if !std::mem::replace(&mut told, true) {
                        let _ = held_back.send(sent);
                    }
                }
                Err(_) => return,
            }
        }
    }
}

fn a_slow_reader_costs_no_memory(name: &str) {
    const LENGTH: u64 = 200_000_000;
    let (held_back, when_held_back) = channel();
    let held_back = Mutex::new(held_back);
    let origin = serve(move |stream| {
        let held_back = held_back.lock().expect("one connection").clone();
        send_until_held_back(stream, LENGTH, &held_back);
    });
    let forwarder = forwarder(name, origin);
    let mut stream = dial(forwarder.address());

    // Reads nothing until the sender, two sockets and a forwarder away, has noticed.
    let sent = when_held_back.recv_timeout(PATIENCE).expect("the sender is held back");
    assert!(sent < LENGTH / 2, "{name} took {sent} bytes that nobody read");
    assert!(forwarder.memory("VmRSS") < MEMORY, "{name} holds {} KiB", forwarder.memory("VmRSS"));

    let (mut expected, mut received) = (Noise::new(LENGTH), 0);
    let (mut chunk, mut compare) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    while received < LENGTH {
        let wanted = chunk.len().min((LENGTH - received) as usize);
        stream.read_exact(&mut chunk[..wanted]).expect("all of it comes");
        expected.read_exact(&mut compare[..wanted]).expect("noise never fails");
        assert!(chunk[..wanted] == compare[..wanted], "{name}: other bytes within 64 KiB of {received}");
        received += wanted as u64;
    }
    assert_eq!(stream.read(&mut chunk).expect("and then the end"), 0);
    assert!(forwarder.memory("VmHWM") < MEMORY, "{name} took {} KiB", forwarder.memory("VmHWM"));
    forwarder.interrupt_and_finish();
}

fn a_half_closed_connection_still_gets_its_answer(name: &str) {
    let origin = serve(|mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).expect("the request and its end");
        request.reverse();
        stream.write_all(&request).expect("answered");
    });
    let forwarder = forwarder(name, origin);
    let mut stream = dial(forwarder.address());
    stream.write_all(b"desserts").expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "stressed", "{name}");
    forwarder.interrupt_and_finish();
}

fn an_origin_that_refuses_closes_the_client_and_nothing_else(name: &str) {
    let forwarder = forwarder(name, closed_port());
    let at = forwarder.address();
    for _ in 0..3 {
        let mut stream = dial(at);
        let mut answer = Vec::new();
        // An end or a reset, but no wait.
        let outcome = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{name}: {answer:?}");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{name}");
        }
    }
    forwarder.interrupt_and_finish();
}

/// The same four tests for each forwarder.
macro_rules! forwarder_tests {
    ($module:ident, $name:literal) => {
        mod $module {
            #[test]
            fn files_from_0_to_200_mb_arrive_identical() {
                super::files_arrive_identical($name);
            }
            #[test]
            fn a_slow_reader_of_200_mb_costs_less_than_30_mb() {
                super::a_slow_reader_costs_no_memory($name);
            }
            #[test]
            fn a_half_closed_connection_still_gets_its_answer() {
                super::a_half_closed_connection_still_gets_its_answer($name);
            }
            #[test]
            fn an_origin_that_refuses_closes_the_client_and_nothing_else() {
                super::an_origin_that_refuses_closes_the_client_and_nothing_else($name);
            }
        }
    };
}
#[cfg(feature = "green")]
forwarder_tests!(green, "portforward");
forwarder_tests!(callback, "callback_portforward");
