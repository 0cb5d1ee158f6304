//! A process without a free descriptor: `accept` says so and does not spin. In a child process, since the limit is a process's.
#![cfg(feature = "green")]
use std::cell::Cell;
use std::fs::File;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;
use twistlet::green::net::{TcpListener, TcpStream};
use twistlet::green::{sleep, spawn};

const CHILD: &str = "NET_EXHAUSTION_CHILD";

// R6
#[test]
fn accept_without_a_free_descriptor_is_an_error_and_no_spin() {
    if std::env::var_os(CHILD).is_some() {
        return exhaust();
    }
    let this = std::env::current_exe().unwrap();
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"])
        .arg(this)
        .args(["--exact", "accept_without_a_free_descriptor_is_an_error_and_no_spin", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn exhaust() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    sleep(Duration::from_millis(1)); // the reactor has its descriptors
    let client = TcpStream::connect(address).unwrap();
    let mut hoard: Vec<File> = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    let errors = Rc::new(Cell::new(0));
    // The loop that everybody writes: it must leave the others time to close something.
    let server = spawn({
        let errors = errors.clone();
        move || {
            loop {
                match listener.accept() {
                    Ok((stream, _)) => return Ok(stream),
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                        errors.set(errors.get() + 1);
                    }
                }
            }
        }
    });
    sleep(Duration::from_millis(50));
    assert!((1..=10).contains(&errors.get()), "{} errors in 50 ms", errors.get());
    hoard.clear();
    let served = server.wait().unwrap();
    assert_eq!(served.peer_addr().unwrap(), client.local_addr().unwrap());
}
