//! imap, a mail client generic over its stream, against a scripted server.
#[path = "../../examples/shared/imap_server.rs"]
mod imap_server;

use crate::crowd::*;
use imap_server::Account;
use std::cell::RefCell;
use std::rc::Rc;
use twistlet::{Failure, Result};

fn account(n: usize, messages: Vec<Vec<u8>>) -> Account {
    Account {
        user: format!("user{n}"),
        password: format!("a \"secret\" of {n}"),
        folders: vec!["INBOX".to_owned(), format!("Archive of {n}")],
        messages: Rc::new(RefCell::new(messages)),
    }
}
fn serve<S: Stream>(stream: S) -> Result {
    let messages = |n| vec![noise(n, size(n)).to_vec(), Vec::new(), noise(n, 600).to_vec()];
    let account_of = |user: &str| {
        let n = user.strip_prefix("user")?.parse().ok()?;
        Some(account(n, messages(n)))
    };
    Ok(imap_server::serve(stream, account_of)?)
}

fn talk<S: Stream>(n: usize, stream: S, gate: &Gate) -> Result {
    let mut client = imap::Client::new(stream);
    client.read_greeting()?;
    let Account { user, password, folders, .. } = account(n, Vec::new());
    let (refused, client) = match client.login(&user, "wrong") {
        Err(refused) => refused,
        Ok(_) => return Err(Failure::msg("logged in with a wrong password")),
    };
    assert!(matches!(refused, imap::Error::No(_)), "{refused}");
    let mut session = client.login(&user, &password).map_err(|(error, _)| error)?;
    gate.pass();
    let listed: Vec<String> = session.list(None, Some("*"))?.iter().map(|name| name.name().to_owned()).collect();
    assert_eq!(listed, folders);
    assert_eq!(session.select("INBOX")?.exists, 3);

    let sent = if dribbles(n) { 3..=3 } else { 1..=3 };
    let fetched = session.fetch(format!("{}:{}", sent.start(), sent.end()), "(RFC822.SIZE BODY.PEEK[])")?;
    assert_eq!(fetched.len(), sent.clone().count());
    for (message, number) in fetched.iter().zip(sent) {
        let length = [size(n), 0, 600][number as usize - 1];
        assert_eq!((message.message, message.size), (number, Some(length as u32)));
        expect("the mail of client", n, message.body().unwrap_or_default(), noise(n, length))?;
    }
    drop(fetched);

    session.append("INBOX", noise(n + 1, 500))?;
    let fetched = session.fetch("4", "(BODY.PEEK[])")?;
    expect("the new mail of client", n, fetched[0].body().unwrap_or_default(), noise(n + 1, 500))?;
    drop(fetched);
    session.logout()?;
    Ok(())
}
fn client<S: Stream>(n: usize, stream: S, gate: &Gate) -> Result {
    if dribbles(n) { talk(n, Dribble::slowly(stream), gate) } else { talk(n, stream, gate) }
}

#[test]
fn imap_runs_unchanged_on_green_sockets() {
    crowd::<Sockets>("imap, sockets", serve, client);
}
#[test]
fn imap_runs_unchanged_on_green_transports() {
    crowd::<Transports>("imap, transports", serve, client);
}
