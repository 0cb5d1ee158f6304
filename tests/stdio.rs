//! `green::io`: standard streams and pipes. The streams are those of processes of their own.
#![cfg(feature = "green")]
mod guard;
use guard::{guarded, joined, panic_of};
use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, ErrorKind, Read, Write};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;
use twistlet::green::{io, sleep, spawn, with_timeout, yield_now};

const IN_CHILD: &str = "TWISTLET_TEST_CHILD";

/// Runs `f` in a process of its own, which is this one called again for the one test; in the parent, that process, with a
/// pipe for its output. What it prints begins after a line "begin".
fn alone(test: &str, stdin: Stdio, f: impl FnOnce() + Send + 'static) -> Option<Child> {
    if std::env::var_os(IN_CHILD).is_some() {
        println!("\nbegin");
        guarded(f);
        std::process::exit(0);
    }
    let mut child = Command::new(std::env::current_exe().expect("a path"));
    child.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(IN_CHILD, "1");
    let child = child.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(child.spawn().expect("it starts"))
}
#[track_caller]
fn output(child: Child) -> String {
    let output = child.wait_with_output().expect("ours");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text.split_once("\nbegin\n").map(|(_, rest)| rest.to_owned()).unwrap_or(text)
}
/// Counts how often it ran while others waited.
fn ticker() -> Rc<Cell<u32>> {
    let ticks = Rc::new(Cell::new(0));
    let counted = ticks.clone();
    spawn(move || {
        while counted.get() < u32::MAX {
            sleep(Duration::from_millis(1));
            counted.set(counted.get() + 1);
        }
    });
    ticks
}

#[test]
fn stdin_from_a_pipe_is_waited_for_without_holding_the_loop() {
    let child = alone("stdin_from_a_pipe_is_waited_for_without_holding_the_loop", Stdio::piped(), || {
        let ticks = ticker();
        // Killed while it waits, it has taken nothing.
        let reader = spawn(|| {
            let mut line = String::new();
            Ok(io::stdin().read_line(&mut line)?)
        });
        sleep(Duration::from_millis(10));
        reader.kill();
        assert!(reader.wait().is_err());
        assert!(with_timeout(Duration::from_millis(10), || io::stdin().read(&mut [0; 10]).map(drop)).is_err());
        println!("ready");
        let mut line = String::new();
        assert_eq!(io::stdin().read_line(&mut line).expect("a line"), 6);
        assert_eq!(line, "first\n");
        let before = ticks.get();
        let mut rest = String::new();
        io::stdin().lock().read_line(&mut rest).expect("a line");
        assert!(ticks.get() >= before + 20, "{} ticks", ticks.get() - before);
        let mut two = [0; 2];
        io::stdin().read_exact(&mut two).expect("two bytes");
        let lines: Vec<_> = io::stdin().lines().map_while(Result::ok).collect();
        println!("{rest:?} {two:?} {lines:?} {}", io::stdin().is_terminal());
        assert_eq!(io::stdin().read(&mut [0; 10]).expect("the end"), 0);
    });
    let Some(mut child) = child else { return };
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert!(stdout.read_line(&mut line).expect("text") > 0, "it ended");
    }
    stdin.write_all(b"first\nsec").expect("it reads");
    std::thread::sleep(Duration::from_millis(100));
    stdin.write_all(b"ond\nxyl1\nl2").expect("it reads");
    drop(stdin);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("text");
    assert!(rest.contains("\"second\\n\" [120, 121] [\"l1\", \"l2\"] false"), "{rest}");
    assert!(child.wait().expect("ours").success());
}

#[test]
fn stdin_from_a_file_nothing_a_socket_or_nowhere() {
    let name = "stdin_from_a_file_nothing_a_socket_or_nowhere";
    let body = || {
        let mut all = String::new();
        let n = io::stdin().read_to_string(&mut all).expect("text");
        println!("{n} {:?}", all.lines().last());
        assert_eq!(io::stdin().read(&mut [0; 10]).expect("the end"), 0);
    };
    let this = File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("there");
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("there");
    let Some(child) = alone(name, this.into(), body) else { return };
    assert!(output(child).starts_with(&format!("{} {:?}", text.len(), text.lines().last())));
    let child = alone(name, Stdio::null(), body).expect("the parent");
    assert!(output(child).starts_with("0 None"));
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let child = alone(name, std::os::fd::OwnedFd::from(theirs).into(), body).expect("the parent");
    (&ours).write_all(b"by socket").expect("it reads");
    drop(ours);
    assert!(output(child).starts_with("9 Some(\"by socket\")"));
}

#[test]
fn the_lock_of_stdin_is_a_green_one() {
    let child = alone("the_lock_of_stdin_is_a_green_one", Stdio::piped(), || {
        let lock = io::stdin().lock();
        let said = panic_of(|| io::stdin().lock());
        assert!(said.contains("has the lock already"), "{said}");
        let killed = spawn(|| drop(io::stdin().lock()));
        let first = spawn(|| {
            let mut line = String::new();
            io::stdin().read_line(&mut line)?;
            Ok(line)
        });
        let second = spawn(|| Ok(io::read_to_string(io::stdin())?));
        let elsewhere = std::thread::spawn(|| {
            drop(io::stdin().lock());
        });
        yield_now();
        yield_now();
        killed.kill();
        assert!(killed.wait().is_err());
        println!("ready");
        drop(lock);
        assert_eq!(first.wait().expect("a line"), "one\n");
        assert_eq!(second.wait().expect("the rest"), "two\nthree\n");
        elsewhere.join().expect("its turn came");
    });
    let Some(mut child) = child else { return };
    child.stdin.take().expect("piped").write_all(b"one\ntwo\nthree\n").expect("it reads");
    assert!(output(child).starts_with("ready"));
}

#[test]
fn output_keeps_its_order_and_lines_that_are_locked_stay_together() {
    let child = alone("output_keeps_its_order_and_lines_that_are_locked_stay_together", Stdio::null(), || {
        print!("a ");
        write!(io::stdout(), "b {} ", 1).expect("written");
        print!("c ");
        let mut out = io::stdout().lock();
        // Once more by the same green thread.
        writeln!(io::stdout(), "d").expect("written");
        writeln!(out, "e").expect("written");
        let others: Vec<_> = (0..5)
            .map(|n| {
                spawn(move || {
                    let mut out = io::stdout().lock();
                    writeln!(out, "{n} begins")?;
                    yield_now();
                    write!(out, "{n} ")?;
                    sleep(Duration::from_millis(1));
                    out.write_all(b"ends\n")?;
                    Ok(())
                })
            })
            .collect();
        yield_now();
        writeln!(out, "f").expect("written");
        drop(out);
        for other in others {
            other.wait().expect("written");
        }
        writeln!(io::stderr(), "an error").expect("written");
        write!(io::stdout(), "no end of line").expect("written");
        io::stdout().flush().expect("written");
    });
    let Some(child) = child else { return };
    let text = output(child);
    let expected: String = (0..5).map(|n| format!("{n} begins\n{n} ends\n")).collect();
    assert!(text.starts_with(&format!("a b 1 c d\ne\nf\n{expected}no end of line")), "{text}");
}

#[test]
fn a_full_pipe_at_stdout_holds_only_who_writes() {
    let child = alone("a_full_pipe_at_stdout_holds_only_who_writes", Stdio::null(), || {
        let ticks = ticker();
        let writer = spawn(|| Ok(io::stdout().write_all(&vec![b'x'; 500_000])?));
        while ticks.get() < 50 {
            sleep(Duration::from_millis(1));
        }
        assert!(!writer.is_finished());
        // On stderr, which is read.
        write!(io::stderr(), "now read").expect("written");
        writer.wait().expect("written");
    });
    let Some(mut child) = child else { return };
    let mut stderr = child.stderr.take().expect("piped");
    let mut said = [0; 8];
    stderr.read_exact(&mut said).expect("it says so");
    assert_eq!(&said, b"now read");
    assert!(output(child).contains(&"x".repeat(500_000)));
}

#[test]
fn pipes_wait_at_both_ends_and_end_with_the_other() {
    let body = || {
        let (mut reader, mut writer) = io::pipe().expect("a pipe");
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 253) as u8).collect();
        let copy = sent.clone();
        let writing = spawn(move || {
            writer.write_all(&copy)?;
            let second = writer.try_clone()?;
            drop(writer);
            sleep(Duration::from_millis(5));
            (&second).write_all(b"end")?;
            Ok(())
        });
        let mut back = Vec::new();
        assert_eq!(io::copy(&mut reader, &mut back).expect("copied"), 1_000_003);
        assert!(back[..1_000_000] == sent && back.ends_with(b"end"));
        writing.wait().expect("written");

        let (reader, mut writer) = io::pipe().expect("a pipe");
        let waiting = spawn(move || Ok((&reader).read(&mut [0; 10])?));
        yield_now();
        waiting.kill();
        assert!(waiting.wait().is_err());
        assert_eq!(writer.write(b"x").expect_err("the reader has gone").kind(), ErrorKind::BrokenPipe);
    };
    guarded(body);
    joined(move |reactor| {
        spawn(move || {
            body();
            reactor.stop()
        });
    });
}

#[test]
fn a_pipe_joins_two_children() {
    guarded(|| {
        use twistlet::green::process::Command;
        let (reader, writer) = io::pipe().expect("a pipe");
        let both = writer.try_clone().expect("cloned");
        let mut child = Command::new("sh")
            .args(["-c", "echo out; echo err >&2"])
            .stdout(writer)
            .stderr(both)
            .spawn()
            .expect("it runs");
        let output = Command::new("sort").stdin(reader).output().expect("it runs");
        assert_eq!(output.stdout, b"err\nout\n");
        assert!(child.wait().expect("ours").success());
    });
}
