//! The examples that put libraries on green sockets, as programs, against real peers.
#![cfg(feature = "green")]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use support::{Program, dial, folder};
use tungstenite::{Message, WebSocket};

#[track_caller]
fn run(name: &str, args: &[&str]) -> String {
    let (status, output, errors) = Program::example(name, args).finish();
    assert_eq!(status.code(), Some(0), "{name} {args:?}: {output:#?}\n{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    output.join("\n")
}

#[test]
fn each_runs_by_itself_and_exits_with_0() {
    let output = run("scrape", &[]);
    assert!(output.contains("/book/60: 6522 bytes, \"Book 60\""), "{output}");
    assert!(output.contains("60 pages, 391311 bytes, 0 failures"), "{output}");
    let output = run("websocket_chat", &[]);
    for name in ["Ada", "Grace", "Barbara"] {
        for other in ["Ada", "Grace", "Barbara"] {
            let heard = output
                .lines()
                .any(|line| line.starts_with(&format!("{name} <- ")) && line.ends_with(&format!("{other} says hello")));
            assert_eq!(heard, name != other, "{name} heard {other}:\n{output}");
        }
    }
    let output = run("imap_client", &[]);
    for said in ["alice: message 2, 129037 bytes: a long story", "bob: folder Archive", "bob: logged out"] {
        assert!(output.contains(said), "no {said:?} in:\n{output}");
    }
}

#[test]
fn each_explains_its_usage() {
    let bad: [(&str, &[&str]); 5] = [
        ("scrape", &["there"]),
        ("scrape", &["--at-once", "0"]),
        ("websocket_chat", &["nonsense"]),
        ("imap_client", &["localhost:143"]),
        ("imap_client", &["nowhere", "me", "secret"]),
    ];
    for (name, args) in bad {
        let (status, output, errors) = Program::example(name, args).finish();
        assert_eq!(status.code(), Some(2), "{name} {args:?}: {output:?}");
        assert!(errors.contains(&format!("usage: {name}")), "{name} {args:?} said {errors:?}");
    }
}

#[test]
fn scrape_fetches_a_folder_from_pythons_server() {
    const PAGES: usize = 120;
    let folder = folder("scrape");
    let page = |n: usize| format!("<title>Page {n}</title>{}", "x".repeat(n * 997));
    let mut index = String::new();
    for n in 0..PAGES {
        std::fs::write(folder.join(format!("{n}.html")), page(n)).expect("written");
        index += &format!("<a href=\"{n}.html\">{n}</a> ");
    }
    index += "<a href=\"/missing.html\">no more</a> <a href=\"http://elsewhere.invalid/\">elsewhere</a> <a href=\"#top\">up</a>";
    std::fs::write(folder.join("index.html"), index).expect("written");
    let (_server, address) = Program::file_server(&folder);
    let output = run("scrape", &[&format!("http://{address}/"), "--at-once", "5"]);
    for n in 0..PAGES {
        let line = format!("200 http://{address}/{n}.html: {} bytes, \"Page {n}\"", page(n).len());
        assert!(output.lines().any(|said| said == line), "no {line:?} in:\n{output}");
    }
    assert!(output.contains(&format!("404 http://{address}/missing.html")), "{output}");
    assert!(!output.contains("elsewhere"), "{output}");
    assert!(output.contains(&format!("{} pages", PAGES + 1)), "{output}");
}

#[test]
fn scrape_says_when_nobody_answers_and_exits_with_1() {
    let to = support::closed_port();
    let (status, _, errors) = Program::example("scrape", &[&format!("http://{to}/")]).finish();
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.contains("refused") && !errors.contains("panicked"), "{errors}");
}

#[test]
fn imap_client_says_when_the_password_is_wrong_and_exits_with_1() {
    // A server of three lines: it greets, and refuses the first command.
    let server = support::serve(|mut stream: TcpStream| {
        let _ = stream.write_all(b"* OK hello\r\n");
        let mut command = String::new();
        let _ = BufReader::new(&stream).read_line(&mut command);
        let tag = command.split(' ').next().unwrap_or_default();
        let _ = stream.write_all(format!("{tag} NO that is not it\r\n").as_bytes());
    });
    let (status, _, errors) = Program::example("imap_client", &[&server.to_string(), "me", "wrong"]).finish();
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.contains("that is not it") && !errors.contains("panicked"), "{errors}");
}

fn enter(room: SocketAddr) -> (WebSocket<TcpStream>, String) {
    let (mut socket, _) = tungstenite::client(format!("ws://{room}/"), dial(room)).expect("a handshake");
    let welcome = hear(&mut socket);
    let name = welcome.trim_start_matches("welcome, ").rsplit_once(':').expect("a name").0.to_owned();
    (socket, name)
}
#[track_caller]
fn hear(socket: &mut WebSocket<TcpStream>) -> String {
    socket.read().expect("a message").into_text().expect("text").to_string()
}

#[test]
fn a_chat_over_websockets_reaches_everybody_else_once_and_in_order() {
    let program = Program::example("websocket_chat", &["127.0.0.1:0"]);
    let room = program.address();
    let (mut ada, name) = enter(room);
    let (mut grace, grace_name) = enter(room);
    assert_eq!(hear(&mut ada), format!("{grace_name} has come"));
    for n in 0..200 {
        ada.send(Message::text(format!("{n} {}", "ä".repeat(n * 10)))).expect("sent");
    }
    for n in 0..200 {
        assert_eq!(hear(&mut grace), format!("{name}: {n} {}", "ä".repeat(n * 10)));
    }
    ada.send(Message::Ping(b"there?".to_vec().into())).expect("sent");
    assert_eq!(ada.read().expect("an answer"), Message::Pong(b"there?".to_vec().into()));
    ada.close(None).expect("sent");
    while ada.read().is_ok() {}
    assert_eq!(hear(&mut grace), format!("{name} has left"));
    program.interrupt_and_finish();
}

#[test]
fn the_chat_speaks_the_protocol_to_the_byte_and_survives_those_who_do_not() {
    let program = Program::example("websocket_chat", &["127.0.0.1:0"]);
    let room = program.address();
    // The handshake and the first frames of RFC 6455.
    let mut raw = dial(room);
    raw.write_all(
        b"GET /chat HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    .expect("sent");
    let head = support::read_head(&mut raw).to_ascii_lowercase();
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    let mut read = |length: usize| {
        let mut bytes = vec![0; length];
        raw.read_exact(&mut bytes).expect("so many bytes");
        bytes
    };
    let welcome = read(2);
    assert_eq!(welcome[0], 0x81, "one whole text");
    let welcome = read(welcome[1].into());
    assert!(welcome.starts_with(b"welcome, 127.0.0.1:"), "{}", welcome.escape_ascii());

    let (mut ada, name) = enter(room);
    let come = format!("{name} has come");
    assert_eq!(read(2 + come.len()), [&[0x81, come.len() as u8], come.as_bytes()].concat());
    // "Hello", masked, as it stands in the RFC.
    raw.write_all(&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]).expect("sent");
    assert!(hear(&mut ada).ends_with(": Hello"));
    // One that speaks nonsense, one that is gone at once, one that breaks the protocol.
    assert!(!support::exchange(room, b"good day\r\n\r\n").contains("101"));
    drop(dial(room));
    raw.write_all(&[0x81, 0x05, b'H', b'e', b'l', b'l', b'o']).expect("sent");
    assert!(hear(&mut ada).ends_with("has left"), "a frame without a mask ends a conversation");
    ada.send(Message::text("still here")).expect("sent");
    assert!(program.line_with("still here").starts_with(&name));
    program.interrupt_and_finish();
}
