//! `Reactor::stdio`: this program called again, with pipes, files and a terminal for its standard streams. Rule STD-1.
mod rig;
use rig::{Log, PATIENCE, Probe, Slot, run};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::transport::process::{self, ExitReason, ProcessProtocol, ProcessRef};
use twistlet::{ConnectionClosed, Reactor};

const ROLE: &str = "TWISTLET_STDIO_ROLE";

/// What the program does when a test has called it.
fn play(role: &str) {
    let (reason, log) = (Slot::<ConnectionClosed>::default(), Log::default());
    let (lost, heard) = (log.clone(), reason.clone());
    let on_lost = move |_, why: &ConnectionClosed| {
        lost.add("lost");
        heard.set(why.clone());
        let _ = Reactor::current().stop();
    };
    let modes = || [0, 1].map(nonblocking);
    let before = modes();
    run(|reactor| match role {
        "upper" | "linger" => {
            let probe = Probe::new().on_data(|t, data| t.write(data.to_ascii_uppercase())).on_lost(on_lost);
            reactor.stdio(probe).expect("there");
            let busy = reactor.stdio(Probe::new()).expect_err("taken");
            assert_eq!(busy.kind(), std::io::ErrorKind::AlreadyExists);
        }
        "flood" => {
            let probe = Probe::new()
                .on_made(|transport| {
                    transport.write(vec![b'x'; 1_000_000]);
                    transport.lose_connection();
                })
                .on_lost(on_lost);
            reactor.stdio(probe).expect("there");
        }
        "deaf" => {
            // Whoever reads our output goes away: we hear of it, and go on reading.
            let (broken, more) = (log.clone(), log.clone());
            let probe = Probe::new()
                .on_write_lost(move |_| broken.add("write lost"))
                .on_data(move |t, _| {
                    t.write("answer");
                    if more.contains("write lost") {
                        t.lose_connection();
                    }
                })
                .on_lost(on_lost);
            reactor.stdio(probe).expect("there");
        }
        "line" => {
            let probe = Probe::new()
                .on_data(|transport, data| {
                    transport.write([b"got ", data].concat());
                    transport.lose_connection();
                })
                .on_lost(on_lost);
            reactor.stdio(probe).expect("there");
        }
        other => panic!("{other}?"),
    });
    assert_eq!(log.all().iter().filter(|line| *line == "lost").count(), 1);
    if role == "deaf" {
        assert!(log.contains("write lost"));
    } else {
        assert_eq!(reason.get(), ConnectionClosed::Done);
        assert_eq!(modes(), before);
    }
    // It can be had again.
    run(|reactor| {
        reactor.stdio(Probe::new()).expect("free again");
        reactor.call_soon(move || reactor.stop());
    });
    if role == "linger" {
        std::thread::sleep(Duration::from_secs(60));
    }
}
/// There is no room for descriptors, then for one more and one more.
fn starve() {
    let reactor = Reactor::new().expect("a reactor");
    let mut others: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    let mut failures = 0;
    while let Err(failure) = reactor.stdio(Probe::new().on_data(|t, data| t.write(data))) {
        assert_eq!(failure.check::<std::io::Error>().and_then(std::io::Error::raw_os_error), Some(24), "{failure}");
        for fd in [0, 1] {
            let is = std::fs::read_link(format!("/proc/self/fd/{fd}")).expect("Linux");
            assert!(is.to_string_lossy().starts_with("pipe:"), "{is:?} after {failures} failures");
        }
        failures += 1;
        drop(others.pop());
    }
    assert!(failures > 3, "{failures}");
    reactor.call_soon(move || reactor.stop());
    reactor.run().expect("it runs");
}
fn nonblocking(fd: i32) -> bool {
    let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("Linux");
    let octal = flags.lines().find_map(|line| line.strip_prefix("flags:")).expect("Linux").trim();
    u32::from_str_radix(octal, 8).expect("octal") & 0o4000 != 0
}

#[test]
fn role() {
    match std::env::var(ROLE).as_deref() {
        Ok("starved") => starve(),
        Ok(role) => play(role),
        Err(_) => {}
    }
}
fn arguments() -> [&'static str; 5] {
    ["role", "--exact", "--nocapture", "--test-threads=1", "--quiet"]
}
fn me() -> std::path::PathBuf {
    std::env::current_exe().expect("a path")
}
fn actor(role: &str) -> Command {
    let mut command = Command::new(me());
    command.args(arguments()).env(ROLE, role).stderr(Stdio::inherit());
    command
}
/// The test harness says something first.
#[track_caller]
fn said(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output).into_owned();
    text.strip_prefix("\nrunning 1 test\n").unwrap_or_else(|| panic!("{text:?}")).to_owned()
}
#[track_caller]
fn succeeded(mut child: Child) {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().expect("ours") {
            return assert!(status.success(), "{status}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    panic!("it does not end");
}

#[test]
fn pipes_are_one_transport_and_their_end_is_seen_while_the_process_lives() {
    let mut child = actor("linger").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(b"hello, world").expect("room");
    let mut output = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut output).expect("the end");
    assert_eq!(said(&output), "HELLO, WORLD");
    assert!(child.try_wait().expect("ours").is_none());
    child.kill().expect("it runs");
    child.wait().expect("ours");
}

#[test]
fn everything_is_flushed_before_the_close() {
    let mut child = actor("flood").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut output = Vec::new();
    // Until it has filled the pipe.
    std::thread::sleep(Duration::from_millis(50));
    child.stdout.take().expect("piped").read_to_end(&mut output).expect("the end");
    assert_eq!(said(&output).len(), 1_000_000);
    succeeded(child);
}

#[test]
fn files_are_read_to_their_end_and_written() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("stdio_transport");
    std::fs::create_dir_all(&folder).expect("a folder");
    let (input, output) = (folder.join("input"), folder.join("output"));
    let text = "some text\n".repeat(100_000);
    std::fs::write(&input, &text).expect("room");
    let file = |path| std::fs::File::create(path).expect("a file");
    let child = actor("upper")
        .stdin(std::fs::File::open(&input).expect("there"))
        .stdout(file(&output))
        .spawn()
        .expect("it starts");
    succeeded(child);
    let written = std::fs::read(&output).expect("there");
    // The harness goes on writing to it.
    assert!(said(&written).starts_with(&text.to_ascii_uppercase()));
    // And no input at all.
    succeeded(actor("upper").stdin(Stdio::null()).stdout(file(&output)).spawn().expect("it starts"));
}

#[test]
fn output_that_nobody_reads_leaves_the_input() {
    let mut child = actor("deaf").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    // What the harness says must be read, or it complains.
    let mut harness = [0; "\nrunning 1 test\n".len()];
    child.stdout.take().expect("piped").read_exact(&mut harness).expect("it begins");
    let mut stdin = child.stdin.take().expect("piped");
    let since = Instant::now();
    // A line at a time, until one has been heard behind the loss.
    while since.elapsed() < PATIENCE && stdin.write_all(b"x").is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
    succeeded(child);
}

// On a terminal, that of a child of `spawn_process`; its modes are as before at the end (checked by the role itself).
#[test]
fn a_terminal_is_read_line_by_line_and_left_as_it_was() {
    struct Talk(Rc<RefCell<String>>, Slot<ExitReason>, bool);
    impl ProcessProtocol for Talk {
        fn out_received(&mut self, process: ProcessRef, data: &[u8]) {
            self.0.borrow_mut().push_str(&String::from_utf8_lossy(data));
            if self.0.borrow().contains("running 1 test") && !std::mem::replace(&mut self.2, true) {
                process.write("a line\n");
            }
        }
        fn process_ended(&mut self, _: ProcessRef, reason: &ExitReason) {
            self.1.set(*reason);
            let _ = Reactor::current().stop();
        }
    }
    let (text, reason) = (Rc::default(), Slot::default());
    run(|reactor| {
        let command = process::Command::new(me()).args(arguments()).env(ROLE, "line").terminal(24, 80);
        reactor.spawn_process(Talk(Rc::clone(&text), reason.clone(), false), command).expect("it starts");
    });
    let text = text.borrow();
    assert!(text.contains("got a line\r\n") && text.contains("test result: ok"), "{text}");
    assert_eq!(reason.get(), ExitReason::Done);
}

#[test]
fn without_room_for_descriptors_they_stay_what_they_are() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 40; exec \"$@\"", "sh"]).arg(me()).args(arguments()).env(ROLE, "starved");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(b"hello").expect("room");
    succeeded(child);
}
