//! The TLS examples against OpenSSL's programs: `tls_server` and `starttls` with `openssl s_client`, `client` with
//! `openssl s_server`, certificates made on the spot.
#![cfg(feature = "green")]
mod certs;
mod support;

use certs::{Pair, authority, pair};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{PATIENCE, Program, folder};

struct Files {
    folder: PathBuf,
}
impl Files {
    fn new(name: &str) -> Files {
        let files = Files { folder: folder(name) };
        files.write("root.pem", &authority().root);
        files.pair("server", pair());
        files
    }
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, text).expect("room for it");
        path.to_str().expect("UTF-8").to_owned()
    }
    fn pair(&self, name: &str, pair: &Pair) -> (String, String) {
        (self.write(&format!("{name}.pem"), &pair.chain), self.write(&format!("{name}.key"), &pair.key))
    }
    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("UTF-8").to_owned()
    }
}
impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// `openssl s_client`, which is told and asked line by line.
struct Client {
    child: Child,
}
impl Client {
    fn start(to: SocketAddr, files: &Files, more: &[&str]) -> Client {
        let child = Command::new("openssl")
            .args([
                "s_client",
                "-connect",
                &to.to_string(),
                "-servername",
                "localhost",
                "-verify_hostname",
                "localhost",
            ])
            .args(["-verify_return_error", "-quiet", "-CAfile", &files.path("root.pem")])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl runs");
        Client { child }
    }
    /// Says this, and gives the answer once it has ended with `until`.
    #[track_caller]
    fn talk(&mut self, text: &str, until: &str) -> String {
        let input = self.child.stdin.as_mut().expect("piped");
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).expect("it listens");
        let output = self.child.stdout.as_mut().expect("piped");
        let (mut answer, mut byte) = (String::new(), [0]);
        while !answer.ends_with(until) {
            match output.read(&mut byte) {
                Ok(1) => answer.push(char::from(byte[0])),
                _ => panic!("only {answer:?} came, not {until:?}; {}", self.errors()),
            }
        }
        answer
    }
    fn errors(&mut self) -> String {
        let mut errors = String::new();
        let _ = self.child.kill();
        if let Some(stderr) = &mut self.child.stderr {
            let _ = stderr.read_to_string(&mut errors);
        }
        errors
    }
}
impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_server_echoes_to_openssl_in_both_versions_and_says_how() {
    let files = Files::new("tls_server");
    let server = Program::example("tls_server", &["127.0.0.1:0", &files.path("server.pem"), &files.path("server.key")]);
    let at = server.address();
    for (version, name) in [("-tls1_3", "Tls13"), ("-tls1_2", "Tls12")] {
        let mut client = Client::start(at, &files, &[version, "-no_ign_eof"]);
        assert_eq!(client.talk("hello there\n", "\n"), "hello there\n");
        let line = server.line();
        assert!(line.contains(name) && line.contains("asked for localhost"), "{line}");
        // The end of its input is a close_notify.
        drop(client.child.stdin.take());
        let line = server.line_with("connection");
        assert!(line.contains("closed in order"), "{line}");
    }
    server.interrupt_and_finish();
}
#[test]
fn the_server_may_want_a_certificate_of_its_clients() {
    let files = Files::new("tls_server_clients");
    let (certificate, key) = files.pair("client", &authority().issue(&["client"]));
    let root = files.path("root.pem");
    let server =
        Program::example("tls_server", &["127.0.0.1:0", &files.path("server.pem"), &files.path("server.key"), &root]);
    let at = server.address();
    let mut client = Client::start(at, &files, &["-cert", &certificate, "-key", &key]);
    assert_eq!(client.talk("me\n", "\n"), "me\n");
    let line = server.line();
    // Its own, and the root that it takes for an intermediate one.
    assert!(line.contains("2 certificates"), "{line}");
    drop(client);
    let _without = Client::start(at, &files, &[]);
    let line = server.line_with("no certificate");
    assert!(line.contains("which this server requires"), "{line}");
    server.interrupt_and_finish();
}
#[test]
fn starttls_serves_a_mail_client_of_openssls() {
    let files = Files::new("starttls");
    let server = Program::example("starttls", &["127.0.0.1:0", &files.path("server.pem"), &files.path("server.key")]);
    let mut client = Client::start(server.address(), &files, &["-starttls", "smtp", "-crlf"]);
    assert!(client.talk("NOOP\n", "secure\r\n").contains("250 ok, secure"));
    assert!(server.line().ends_with("is secure"));
    assert!(client.talk("STARTTLS\n", "\r\n").contains("503 already"));
    assert!(client.talk("QUIT\n", "\r\n").contains("221 bye"));
    server.interrupt_and_finish();
}
#[test]
fn the_client_reads_from_openssl_line_by_line() {
    let files = Files::new("client_tls");
    let page = files.folder.join("pages");
    std::fs::create_dir(&page).expect("a folder");
    std::fs::write(page.join("index.html"), "<p>plain page</p>\n").expect("room for it");
    let (_server, plain) = Program::file_server(&page);
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
    let mut openssl = Command::new("openssl");
    openssl.args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-www", "-cert", &files.path("server.pem")]);
    let _openssl = Program::start(openssl.args(["-key", &files.path("server.key")]));
    wait_for(([127, 0, 0, 1], port).into());

    let mut client = Command::new(support::example("client"));
    client.args([&plain.to_string(), &format!("localhost:{port}")]).env("SSL_CERT_FILE", files.path("root.pem"));
    let (status, output, errors) = Program::start(&mut client).finish();
    assert!(status.success(), "{errors}\n{output:#?}");
    let output = output.join("\n");
    assert!(output.contains("plain page") && output.contains("  0 HTTP/1.0 200 ok"), "{output}");
    assert!(output.contains("TLSv1.3"), "{output}");

    // Whom nobody told to trust that server.
    let mut client = Command::new(support::example("client"));
    client.args([&plain.to_string(), &format!("localhost:{port}")]).env("SSL_CERT_FILE", files.path("other.pem"));
    files.write("other.pem", &certs::Authority::new("another").root);
    let (status, _, errors) = Program::start(&mut client).finish();
    assert_eq!(status.code(), Some(1));
    assert!(errors.contains("issued by nobody we trust"), "{errors}");
}
fn wait_for(at: SocketAddr) {
    let begun = Instant::now();
    while std::net::TcpStream::connect(at).is_err() {
        assert!(begun.elapsed() < PATIENCE, "openssl does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
}
#[test]
fn wrong_arguments_are_answered_with_usage() {
    for name in ["tls_server", "starttls"] {
        let (status, _, errors) = Program::example(name, &["127.0.0.1:0"]).finish();
        assert_eq!(status.code(), Some(2));
        assert!(errors.contains("usage: "), "{errors}");
    }
    let missing = Path::new("/nonexistent").to_str().expect("UTF-8");
    let (status, _, errors) = Program::example("tls_server", &["127.0.0.1:0", missing, missing]).finish();
    assert_eq!(status.code(), Some(1));
    assert!(errors.contains("No such file"), "{errors}");
}
