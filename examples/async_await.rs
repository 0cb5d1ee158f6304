//! cargo run --example async_await
//!
//! Callbacks, `async fn` and green threads in one program, on one thread, over real sockets:
//!
//! * a server in callbacks that counts the letters of each line,
//! * before it a server of async functions, one a connection, that splits a line into words and asks the first for all of them
//!   at once,
//! * green threads as clients of that, one of which waits for an async function, and an async function that waits for a green
//!   thread.
//!
//! Its arguments are the lines that are asked about: `-- "some words" "and some more"`.
use std::process::ExitCode;
use std::time::Duration;
use twistlet::deferred::gather_results;
use twistlet::green::{GreenClientCreator, block_on_future, sleep, spawn, wait_all};
use twistlet::protocols::{LineHandler, LineReceiver, LineTransport, Lines, PullFactory, PullTransport};
use twistlet::{Address, Deferred, Failure, Reactor, Result};

/// In callbacks: answers each line with the number of its letters.
struct Letters;
impl LineHandler for Letters {
    fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
        transport.send_line(line.len().to_string());
    }
}

/// An async function: asks the letter server for one word.
async fn letters(reactor: Reactor, at: Address, word: String) -> Result<String> {
    let conn = PullTransport::connect_tcp(&reactor, &at, Lines::new()).await?;
    conn.send(&word).await?;
    let number = conn.recv().await?.ok_or_else(|| Failure::msg("the letter server hung up"))?;
    conn.close().await?;
    Ok(format!("{word}={}", String::from_utf8_lossy(&number)))
}

/// An async function for each connection of the word server.
async fn words(reactor: Reactor, at: Address, conn: PullTransport<Lines>) -> Result<()> {
    while let Some(line) = conn.recv().await? {
        let line = String::from_utf8_lossy(&line).into_owned();
        // All at once; the answers come in the order of the words.
        let asked = line.split_whitespace().map(|word| letters(reactor, at.clone(), word.to_owned()));
        let asked: Vec<_> = asked.map(|one| reactor.spawn_local(one)).collect();
        let answers = gather_results(asked).await?;
        conn.send(answers.join(" ")).await?;
    }
    Ok(())
}

/// Blocking code, for a green thread.
fn client(reactor: Reactor, at: &Address, line: &str) -> Result<String> {
    let conn = GreenClientCreator::new(&reactor).framed(Lines::new).connect_tcp(at)?;
    conn.send(line)?;
    let answer = conn.recv()?.ok_or_else(|| Failure::msg("the word server hung up"))?;
    conn.close()?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn run(lines: Vec<String>) -> Result<()> {
    let reactor = Reactor::current();
    let letter_port = reactor.listen_tcp("127.0.0.1:0", || LineReceiver::new(Letters))?;
    let asks = letter_port.address();
    let serve = move |conn| Deferred::from_future(words(reactor, asks.clone(), conn));
    let word_port = reactor.listen_tcp("127.0.0.1:0", PullFactory::framed(Lines::new, serve))?;
    let at = word_port.address();

    // A green thread a line.
    let there = at.clone();
    let clients = lines.into_iter().map(move |line| {
        let at = there.clone();
        spawn(move || client(reactor, &at, &line))
    });
    for answer in wait_all(clients.collect::<Vec<_>>()) {
        println!("{}", answer?);
    }

    // A green thread, the main one, waits for an async block, which waits for a green thread.
    let answer = block_on_future(async {
        let word = spawn(|| {
            sleep(Duration::from_millis(10));
            Ok("green".to_owned())
        });
        letters(reactor, letter_port.address(), word.await?).await
    })??;
    println!("{answer}");
    reactor.close();
    Ok(())
}

fn main() -> ExitCode {
    let mut lines: Vec<String> = std::env::args().skip(1).collect();
    if lines.is_empty() {
        lines = vec!["callbacks and futures".to_owned(), "share a thread".to_owned()];
    }
    match run(lines) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("async_await: {failure:?}");
            ExitCode::FAILURE
        }
    }
}

// Try it, it needs nothing:
//     cargo run --example async_await
