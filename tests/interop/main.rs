//! Conversations with other implementations, both ways, as a table: Twisted, openssl, curl and Python's ssl module against our
//! servers, and our clients against theirs. Not a test harness's program, so that the table is what it prints.
//!
//! Without Twisted its rows are left out, and said to be; `TWISTLET_PYTHON` names a Python that has it, and then (as in
//! `.ci/run`) nothing may be left out.
#[path = "../certs/mod.rs"]
mod certs;
mod ours;
mod peers;

use ours::Servers;
use peers::{Files, Peer};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use twistlet::green::with_timeout;
use twistlet::{Failure, Result};

/// What a conversation is about; Twisted's side is in twisted_peer.py.
const KINDS: &[&str] = &["line", "netstring", "int32", "tls", "starttls", "proxy1", "proxy2"];
const PATIENCE: Duration = Duration::from_secs(60);

struct Table {
    rows: usize,
    failures: usize,
}

impl Table {
    /// Holds one conversation and prints its row.
    fn row(&mut self, what: &str, who: &str, talk: impl FnOnce() -> Result<String>) {
        let began = Instant::now();
        let outcome = match with_timeout(PATIENCE, talk) {
            Ok(outcome) => outcome,
            Err(late) => Err(Failure::from(late)),
        };
        self.rows += 1;
        let (word, text) = match outcome {
            Ok(text) => ("ok", text),
            Err(failure) => {
                self.failures += 1;
                ("FAILED", failure.to_string())
            }
        };
        println!("| {what:<9} | {who:<38} | {word:<6} | {:>5} ms | {text}", began.elapsed().as_millis());
    }
}

fn main() -> Result<ExitCode> {
    let pair = certs::authority().issue(&["localhost", "127.0.0.1"]);
    let files = Files::write(&certs::authority().root, &pair.chain, &pair.key)?;
    let servers = Servers::listen(&pair.chain, &pair.key)?;
    let mut table = Table { rows: 0, failures: 0 };

    let (python, required) = match std::env::var("TWISTLET_PYTHON") {
        Ok(python) => (python, true),
        Err(_) => ("python3".to_owned(), false),
    };
    let twisted = Peer::twisted(&python, &files);
    if let Some(version) = twisted.version() {
        println!("Twisted {version}");
        for kind in KINDS {
            table.row(kind, "Twisted's client, our server", || twisted.talk(kind, servers.port(kind)));
            table.row(kind, "our client, Twisted's server", || ours::talk(kind, &twisted.serve(kind)?));
        }
    } else if required {
        println!("{python} has no Twisted");
        table.failures += 1;
    } else {
        println!(
            "no Twisted here (pip install twisted pyopenssl service_identity): its {} rows are left out",
            2 * KINDS.len()
        );
    }
    let ssl = Peer::python_ssl("python3", &files);
    table.row("tls", "Python's ssl, our server", || ssl.talk("", servers.port("tls")));
    table.row("tls", "our client, Python's ssl", || ours::talk("alpn", &ssl.serve("")?));
    table.row("tls", "openssl s_client, our server", || peers::s_client(servers.port("tls"), &files));
    table.row("starttls", "openssl s_client, our server", || peers::s_client_starttls(servers.port("smtp"), &files));
    table.row("tls", "our client, openssl s_server", || ours::talk_reversed(&peers::s_server(&files)?));
    table.row("https", "curl, our server", || peers::curl(servers.port("https"), &files, false));
    table.row("proxy1", "curl, our server", || peers::curl(servers.port("proxied"), &files, true));

    println!("{} conversations, {} failed", table.rows, table.failures);
    Ok(if table.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
