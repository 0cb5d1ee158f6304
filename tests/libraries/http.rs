//! An HTTP server on httparse, and who asks it: ureq on green sockets beside it, and the real curl.
#[path = "../../examples/shared/green_ureq.rs"]
mod green_ureq;

use crate::crowd::*;
use crate::support;
use std::io::Write;
use std::net::SocketAddr;
use twistlet::green::block_on;
use twistlet::{Failure, Reactor, Result};
use ureq::config::Config;

/// What a request asks for.
struct Request {
    method: String,
    path: String,
    body: Vec<u8>,
    keep_alive: bool,
}

/// The next request; `None` when the client closes instead. `input` keeps what came behind it.
fn read_request(stream: &mut impl Stream, input: &mut Vec<u8>) -> Result<Option<Request>> {
    let mut chunk = [0; 16 * 1024];
    let mut more = |input: &mut Vec<u8>| -> Result<bool> {
        let n = stream.read(&mut chunk)?;
        input.extend_from_slice(&chunk[..n]);
        Ok(n > 0)
    };
    let (mut request, head, length, wants_go) = loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut parsed = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(head) = parsed.parse(input)? {
            let header =
                |name: &str| parsed.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value);
            let length = header("content-length").map_or(Ok(0), |value| String::from_utf8_lossy(value).parse())?;
            let request = Request {
                method: parsed.method.unwrap_or_default().to_owned(),
                path: parsed.path.unwrap_or_default().to_owned(),
                body: Vec::new(),
                keep_alive: parsed.version == Some(1) && header("connection") != Some(b"close"),
            };
            let wants_go = header("expect").is_some();
            break (request, head, length, wants_go);
        }
        if !more(input)? {
            return if input.is_empty() { Ok(None) } else { Err(Failure::msg("the end within a head")) };
        }
    };
    if wants_go && input.len() == head {
        return Err(Failure::msg("this server has no 100 Continue"));
    }
    while input.len() < head + length {
        if !more(input)? {
            return Err(Failure::msg("the end within a body"));
        }
    }
    request.body = input[head..head + length].to_vec();
    input.drain(..head + length);
    Ok(Some(request))
}

/// As much of client N's bytes as `/part/N` gives.
fn part(n: usize) -> &'static [u8] {
    noise(n, size(n).min(24_000))
}

/// `/noise/N` gives client N's bytes, `/part/N` the first of them, every other one in chunks; POST `/echo` gives back what came.
fn serve<S: Stream>(mut stream: S) -> Result {
    let mut input = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut input)? {
        let (page, number) = request.path.rsplit_once('/').unwrap_or_default();
        let number = number.parse().ok().filter(|n| *n < CROWD);
        let (status, body) = match (request.method.as_str(), page, number) {
            ("GET", "/noise", Some(n)) => ("200 OK", noise(n, size(n)).to_vec()),
            ("GET", "/part", Some(n)) => ("200 OK", part(n).to_vec()),
            ("POST", "", None) if request.path == "/echo" => ("200 OK", request.body),
            _ => ("404 Not Found", Vec::new()),
        };
        let chunked = number.is_some_and(|n| n % 2 == 1 && !dribbles(n));
        if chunked {
            stream.write_all(format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes())?;
            for chunk in body.chunks(5_000) {
                let chunk = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
                stream.write_all(&chunk)?;
            }
            stream.write_all(b"0\r\n\r\n")?;
        } else {
            stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes())?;
            // The first bytes one by one, for some.
            let slow = if number.is_some_and(dribbles) { body.len().min(700) } else { 0 };
            Dribble::slowly(&mut stream).write_all(&body[..slow])?;
            stream.write_all(&body[slow..])?;
        }
        stream.flush()?;
        if !request.keep_alive {
            break;
        }
    }
    Ok(())
}

fn ask(n: usize, server: SocketAddr, gate: &Gate) -> Result {
    let agent = green_ureq::agent(Config::default());
    let body = |mut answer: ureq::http::Response<ureq::Body>| answer.body_mut().read_to_vec();
    let answer = body(agent.get(format!("http://{server}/noise/{n}")).call()?)?;
    expect("the answer to client", n, &answer, noise(n, size(n)))?;
    gate.pass();
    let sent = noise(n, size(n));
    let answer = body(agent.post(format!("http://{server}/echo")).send(sent)?)?;
    expect("the echo of client", n, &answer, sent)?;
    match agent.get(format!("http://{server}/nothing")).call() {
        Err(ureq::Error::StatusCode(404)) => Ok(()),
        outcome => Err(Failure::msg(format!("a page that is not there: {outcome:?}"))),
    }
}

#[test]
fn ureq_runs_unchanged_on_green_sockets() {
    // One connection a client: ureq finds it open and uses it again.
    crowd_on("ureq, sockets", CROWD, || Sockets::listen(serve), ask);
}
#[test]
fn ureq_is_served_by_httparse_on_green_transports() {
    crowd_on("ureq and httparse, transports", CROWD, || Transports::listen(serve), ask);
}

#[test]
fn curl_is_served_by_httparse_on_green_sockets() {
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: there is no curl");
        return;
    }
    on_a_thread(|| {
        let server = Sockets::listen(serve);
        let folder = support::folder("httparse");
        let (at, to) = (server.address, folder.join("#1"));
        let held = Held::watch();
        let curl = Reactor::current().defer_to_thread(move || {
            let pages = format!("http://{at}/part/[0-{}]", CROWD - 1);
            let many = ["--parallel", "--parallel-immediate", "--parallel-max", "200"];
            let got = support::curl(&[&many[..], &[&pages, "-o", &to.to_string_lossy()]].concat());
            let (whole, echoed) = (to.with_file_name("whole"), to.with_file_name("echoed"));
            std::fs::write(&whole, noise(7, size(7)))?;
            let file = format!("@{}", whole.display());
            let url = format!("http://{at}/echo");
            let posted =
                support::curl(&["--data-binary", &file, "-H", "Expect:", "-o", &echoed.to_string_lossy(), &url]);
            Ok([got, posted])
        });
        for (status, _, errors) in block_on(curl).expect("curl runs") {
            assert_eq!(status, Some(0), "{errors}");
        }
        held.judge("curl and httparse");
        let check = |name: &str, n, sent: &[u8]| {
            let came = std::fs::read(folder.join(name)).expect("written by curl");
            expect("what curl got", n, &came, sent).unwrap_or_else(|failure| panic!("{failure}"));
        };
        (0..CROWD).for_each(|n| check(&n.to_string(), n, part(n)));
        check("echoed", 7, noise(7, size(7)));
        drop(server);
    });
}
