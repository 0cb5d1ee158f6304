//! cargo run --example process_pipeline
//!
//! Pipelines of real commands, several at once on one thread: green threads feed them and drain them, and nobody waits for
//! anybody else.
use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;
use std::time::Duration;
use twistlet::Result;
use twistlet::green::process::{Child, Command, Stdio};
use twistlet::green::{sleep, spawn, with_timeout};

const WORDS: [&str; 4] = ["pear", "apple", "plum", "apple"];

fn sh(script: &str, stdin: impl Into<Stdio>) -> io::Result<Child> {
    Command::new("sh").args(["-c", script]).stdin(stdin).stdout(Stdio::piped()).kill_on_drop(true).spawn()
}

/// The end of a pipe that was asked for.
fn piped<T>(end: &mut Option<T>) -> io::Result<T> {
    end.take().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
}

/// (feeder) | sort | uniq -c | (drainer)
fn count_words(times: usize) -> Result<Vec<String>> {
    let mut sort = sh("sort", Stdio::piped())?;
    // The system joins these two; what they say to each other never passes through here.
    let between = piped(&mut sort.stdout)?;
    let mut uniq = sh("uniq -c", between)?;

    let mut feed = piped(&mut sort.stdin)?;
    let feeder = spawn(move || {
        for _ in 0..times {
            feed.write_all(format!("{}\n", WORDS.join("\n")).as_bytes())?;
        }
        Ok(()) // and `feed` is closed
    });
    let mut counts = Vec::new();
    for line in BufReader::new(piped(&mut uniq.stdout)?).lines() {
        counts.push(line?.trim().to_owned());
    }
    feeder.wait()?;
    println!("  sort ended with {}, uniq with {}", sort.wait()?, uniq.wait()?);
    Ok(counts)
}

/// More than any pipe holds, both ways at once.
fn shout(bytes: usize) -> Result<usize> {
    let mut tr = sh("tr a-z A-Z", Stdio::piped())?;
    let mut feed = piped(&mut tr.stdin)?;
    let feeder = spawn(move || Ok(feed.write_all("twistlet ".repeat(bytes / 9).as_bytes())?));
    let output = tr.wait_with_output()?;
    feeder.wait()?;
    Ok(output.stdout.iter().filter(|byte| byte.is_ascii_uppercase()).count())
}

fn main() -> Result<ExitCode> {
    if std::env::args().len() > 1 {
        eprintln!("usage: process_pipeline      (no arguments: it runs commands of its own)");
        return Ok(ExitCode::from(2));
    }
    // Proof that nobody holds the loop.
    let ticker = spawn(|| {
        for n in 1..=20 {
            sleep(Duration::from_millis(10));
            if n % 5 == 0 {
                println!("  tick {n}");
            }
        }
    });
    let counters: Vec<_> = (1..=3).map(|n| (n, spawn(move || count_words(n * 1000)))).collect();
    let shouting = spawn(|| shout(900_000));
    let both = spawn(|| Ok(Command::new("sh").args(["-c", "echo fine; echo 'not so fine' >&2; exit 3"]).output()?));
    let late = spawn(|| Ok(with_timeout(Duration::from_millis(50), || sh("exec sleep 60", Stdio::null())?.wait())));

    for (n, counter) in counters {
        println!("pipeline {n} counted {:?}", counter.wait()?);
    }
    println!("tr shouted {} letters", shouting.wait()?);
    let both = both.wait()?;
    let (out, err) = (String::from_utf8_lossy(&both.stdout), String::from_utf8_lossy(&both.stderr));
    println!("{}, out {out:?}, err {err:?}", both.status);
    match late.wait()? {
        Ok(status) => println!("sleep ended with {status:?}"),
        Err(late) => println!("sleep was given up and killed: {late}"),
    }
    ticker.wait()?;
    Ok(ExitCode::SUCCESS)
}

// Try it: there is nothing to poke; it prints what each pipeline said, and ends.
