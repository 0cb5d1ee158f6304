//! `examples/process_filter.rs` as a user has it: in pipelines, with files, with programs that fail.
mod support;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use support::{Noise, example};

fn filter(words: &[&str]) -> Command {
    let mut command = Command::new(example("process_filter"));
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
fn start(words: &[&str]) -> Child {
    filter(words).spawn().expect("it starts")
}
/// Status, output and errors for some input.
fn run(words: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = start(words);
    // A program that does not read has a right not to.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("ours");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn text_goes_through_the_program_and_its_status_comes_out() {
    assert_eq!(run(&[], "pear\napple\n"), (Some(0), "APPLE\nPEAR\n".into(), String::new()));
    assert_eq!(run(&["tr", "abc", "xyz"], "aabbcc"), (Some(0), "XXYYZZ".into(), String::new()));
    assert_eq!(run(&["cat"], ""), (Some(0), String::new(), String::new()));
    let (status, output, errors) = run(&["sh", "-c", "echo out; echo trouble >&2; exit 3"], "not read");
    assert_eq!((status, output.as_str()), (Some(3), "OUT\n"));
    assert_eq!(errors, "sh: trouble\nsh: the process exited with code 3\n");
    let (status, _, errors) = run(&["sh", "-c", "kill -9 $$"], "");
    assert_eq!((status, errors.as_str()), (Some(137), "sh: the process was ended by SIGKILL\n"));
    let (status, output, errors) = run(&["/nonexistent"], "");
    assert_eq!((status, output.as_str()), (Some(127), ""));
    assert!(errors.starts_with("process_filter: cannot start /nonexistent: No such file"), "{errors}");
}

#[test]
fn ten_megabytes_arrive_whole() {
    let mut sent = Vec::new();
    Noise::new(10_000_000).read_to_end(&mut sent).expect("noise");
    let mut child = start(&["cat"]);
    let (mut stdin, input) = (child.stdin.take().expect("piped"), sent.clone());
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("ours");
    feeder.join().expect("no panic").expect("all was taken");
    assert!(output.status.success());
    assert!(output.stdout == sent.to_ascii_uppercase(), "{} bytes", output.stdout.len());
}

/// Memory of a process that is in use, in bytes.
fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
}

/// Endless input to a program that reads it, whose endless output nobody takes: everybody is held back.
#[test]
fn a_slow_reader_holds_the_writer_back_and_costs_no_memory() {
    let mut child = start(&["cat"]);
    let mut stdin = child.stdin.take().expect("piped");
    let feeder = std::thread::spawn(move || {
        let block = [b'x'; 65_536];
        let mut sent = 0u64;
        while stdin.write_all(&block).is_ok() {
            sent += block.len() as u64;
        }
        sent
    });
    let mut stdout = child.stdout.take().expect("piped");
    let mut first = [0; 1];
    stdout.read_exact(&mut first).expect("it begins");
    std::thread::sleep(std::time::Duration::from_millis(300));
    let memory = resident(child.id());
    assert!(memory < 30_000_000, "{memory} bytes");
    // And when the reader goes, so does everything.
    drop(stdout);
    let status = child.wait().expect("ours");
    // `cat` has found nobody who reads.
    assert_eq!(status.code(), Some(141));
    let sent = feeder.join().expect("no panic");
    assert!(sent < 10_000_000, "{sent} bytes were taken");
}
