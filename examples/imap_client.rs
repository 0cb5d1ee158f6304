//! cargo run --example imap_client [HOST:PORT USER PASSWORD [FOLDER]]
//!
//! Reads mail with the `imap` crate, a blocking library generic over `Read + Write`, unchanged on a green socket: log in, list the
//! folders, fetch the newest messages. Without arguments two accounts are read at once, from a small server in this process.
#[path = "shared/imap_server.rs"]
mod imap_server;

use imap_server::Account;
use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use twistlet::green::net::{TcpListener, TcpStream};
use twistlet::green::{spawn, wait_all};
use twistlet::{Failure, Result};

/// How many messages are fetched, from the end.
const NEWEST: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(30);

/// Blocking code from the first line to the last.
fn read_mail(server: &str, user: &str, password: &str, folder: &str) -> Result {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut client = imap::Client::new(stream);
    client.read_greeting()?;
    let mut session = client.login(user, password).map_err(|(error, _)| error)?;
    for name in session.list(Some(""), Some("*"))?.iter() {
        println!("{user}: folder {}", name.name());
    }
    let count = session.examine(folder)?.exists;
    println!("{user}: {count} messages in {folder}");
    if count > 0 {
        let from = count.saturating_sub(NEWEST) + 1;
        for message in session.fetch(format!("{from}:{count}"), "(RFC822.SIZE BODY.PEEK[])")?.iter() {
            let body = message.body().unwrap_or_default();
            let subject = body.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Subject: "));
            let subject = String::from_utf8_lossy(subject.unwrap_or(b"(none)")).trim().to_owned();
            println!("{user}: message {}, {} bytes: {subject}", message.message, body.len());
        }
    }
    session.logout()?;
    println!("{user}: logged out");
    Ok(())
}

/// A post office with two boxes, on this thread too.
fn open_post_office() -> Result<String> {
    let mail = |subject: &str, lines: usize| {
        let body = "Nothing here waits for anything but mail.\r\n".repeat(lines);
        format!("From: them\r\nSubject: {subject}\r\n\r\n{body}").into_bytes()
    };
    let account = |user: &str, messages| Account {
        user: user.to_owned(),
        password: "secret".to_owned(),
        folders: vec!["INBOX".to_owned(), "Archive".to_owned()],
        messages: Rc::new(RefCell::new(messages)),
    };
    let accounts = Rc::new([
        account("alice", vec![mail("tea at four", 3), mail("a long story", 3_000)]),
        account("bob", vec![mail("re: tea at four", 5)]),
    ]);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    spawn(move || {
        for stream in listener.incoming() {
            let (stream, accounts) = (stream?, accounts.clone());
            let account_of = move |user: &str| accounts.iter().find(|account| account.user == user).cloned();
            spawn(move || Ok(imap_server::serve(stream, account_of)?));
        }
        Ok::<_, Failure>(())
    });
    Ok(address)
}

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let server = open_post_office()?;
            let readers = ["alice", "bob"].map(|user| {
                let server = server.clone();
                spawn(move || read_mail(&server, user, "secret", "INBOX"))
            });
            wait_all(readers).into_iter().collect::<Result>()?;
        }
        [server, user, password] if server.contains(':') => read_mail(server, user, password, "INBOX")?,
        [server, user, password, folder] if server.contains(':') => read_mail(server, user, password, folder)?,
        _ => {
            eprintln!("usage: imap_client [HOST:PORT USER PASSWORD [FOLDER]]      (without: a server of its own)");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

// Try it, with a server that allows logins without TLS, such as Dovecot on your own machine:
//     cargo run --example imap_client localhost:143 $USER password
