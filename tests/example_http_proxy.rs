//! The proxy between curl and python3 -m http.server, and between raw clients and origins that misbehave.
#![cfg(feature = "green")]
mod support;
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use support::{
    PATIENCE, Program, SIZES, closed_port, curl, dial, exchange, folder, noise_file, read_head, serve, sha256,
};

fn proxy() -> (Program, SocketAddr) {
    let proxy = Program::example("http_proxy", &["127.0.0.1:0"]);
    let at = proxy.address();
    (proxy, at)
}

#[track_caller]
fn assert_status(answer: &str, status: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "not a {status}: {answer:?}");
    assert!(answer.contains("\r\n\r\n"), "no end of the head: {answer:?}");
}

fn get(uri: &str) -> Vec<u8> {
    format!("GET {uri} HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes()
}

#[test]
fn files_from_0_to_200_mb_arrive_identical_and_are_not_held_in_memory() {
    let folder = folder("http_proxy");
    let (_server, origin) = Program::file_server(&folder);
    let (proxy, at) = proxy();
    for size in SIZES {
        let (file, received) = (noise_file(&folder, size), folder.join("received"));
        let (through, uri) = (format!("http://{at}"), format!("http://{origin}/{size}"));
        let (code, _, errors) = curl(&["-f", "-x", &through, "-o", &received.to_string_lossy(), &uri]);
        assert_eq!(code, Some(0), "{size} bytes: {errors}");
        // An empty body leaves no file with some versions of curl.
        let digest = if received.exists() { sha256(&received) } else { sha256(&noise_file(&folder, 0)) };
        assert_eq!(digest, sha256(&file), "{size} bytes");
        let _ = std::fs::remove_file(received);
        std::fs::remove_file(file).expect("was written");
    }
    assert!(proxy.memory("VmHWM") < 30_000, "the proxy took {} KiB", proxy.memory("VmHWM"));
    proxy.interrupt_and_finish();
}

#[test]
fn a_head_request_gets_the_head_alone() {
    let folder = folder("http_proxy_head");
    noise_file(&folder, 1_000_000);
    let (_server, origin) = Program::file_server(&folder);
    let (proxy, at) = proxy();
    let (code, head, errors) = curl(&["-I", "-x", &format!("http://{at}"), &format!("http://{origin}/1000000")]);
    assert_eq!(code, Some(0), "{errors}");
    assert_status(&head, "200");
    assert!(head.to_ascii_lowercase().contains("content-length: 1000000\r\n"), "{head}");
    proxy.interrupt_and_finish();
}

#[test]
fn an_error_status_of_the_origin_is_passed_on() {
    let (_server, origin) = Program::file_server(&folder("http_proxy_404"));
    let (_proxy, at) = proxy();
    assert_status(&exchange(at, &get(&format!("http://{origin}/missing"))), "404");
}

#[test]
fn a_posted_body_reaches_the_origin_and_its_answer_the_client() {
    let origin = serve(|mut stream| {
        let head = read_head(&mut stream).to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        let mut body = vec![0; length.unwrap_or_default()];
        stream.read_exact(&mut body).expect("the body");
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&body)).expect("answered");
    });
    let folder = folder("http_proxy_post");
    let (proxy, at) = proxy();
    // curl asks for `100 Continue` before it sends the larger one.
    for size in [0, 1, 1_000, 20_000_000] {
        let (file, received) = (noise_file(&folder, size), folder.join("received"));
        let body = format!("@{}", file.display());
        let (through, uri) = (format!("http://{at}"), format!("http://{origin}/"));
        let arguments = ["-f", "-x", &through, "--data-binary", &body, "-o", &received.to_string_lossy(), &uri];
        let (code, _, errors) = curl(&arguments);
        assert_eq!(code, Some(0), "{size} bytes: {errors}");
        let digest = if received.exists() { sha256(&received) } else { sha256(&noise_file(&folder, 0)) };
        assert_eq!(digest, sha256(&file), "{size} bytes");
        let _ = std::fs::remove_file(received);
    }
    proxy.interrupt_and_finish();
}

#[test]
fn a_get_ends_with_its_head() {
    let (tell, told) = channel();
    let tell = std::sync::Mutex::new(tell);
    let origin = serve(move |mut stream| {
        let head = read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("answered");
        let mut more = Vec::new();
        stream.read_to_end(&mut more).expect("the proxy closes");
        let _ = tell.lock().expect("one connection").send((head, more));
    });
    let (proxy, at) = proxy();
    let request = format!("GET http://{origin}/path?q HTTP/1.1\r\nHost: {origin}\r\nX-Mine: kept\r\n");
    assert_status(&exchange(at, format!("{request}Proxy-Connection: keep-alive\r\n\r\n").as_bytes()), "200");
    let (head, more) = told.recv_timeout(PATIENCE).expect("the origin saw it");
    assert!(more.is_empty(), "{:?} came after the head", String::from_utf8_lossy(&more));
    assert!(head.starts_with("GET /path?q HTTP/1.1\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("\r\nx-mine: kept\r\n"), "{head}");
    for unwanted in ["transfer-encoding", "content-length", "proxy-connection", "user-agent"] {
        assert!(!head.contains(unwanted), "{unwanted} in {head}");
    }
    proxy.interrupt_and_finish();
}

#[test]
fn garbage_is_a_400() {
    let (proxy, at) = proxy();
    let origin = closed_port();
    for request in [
        "garbage\r\n".to_owned(),
        "\u{1}\u{2}\u{3}\r\n\r\n".into(),
        "GET / HTTP/1.1\r\n\r\n".into(),
        "GET ftp://host/ HTTP/1.1\r\n\r\n".into(),
        format!("BREW http://{origin}/ HTTP/1.1\r\n\r\n"),
        format!("GET http://{origin}/ HTTP/1.1\r\nno colon\r\n\r\n"),
        format!("GET http://{origin}/ HTTP/1.1\r\nbad name: x\r\n\r\n"),
        format!("POST http://{origin}/ HTTP/1.1\r\nContent-Length: many\r\n\r\n"),
        format!("POST http://{origin}/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ] {
        assert_status(&exchange(at, request.as_bytes()), "400");
    }
    proxy.interrupt_and_finish();
}

#[test]
fn an_oversized_header_is_a_431() {
    let (proxy, at) = proxy();
    let long = format!("GET http://host/ HTTP/1.1\r\nX: {}\r\n", "x".repeat(20_000));
    assert_status(&exchange(at, long.as_bytes()), "431");
    let endless = "x".repeat(20_000);
    assert_status(&exchange(at, endless.as_bytes()), "431");
    // Answered long before all of it has come.
    let huge = format!("GET http://host/ HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000_000));
    assert_status(&exchange(at, huge.as_bytes()), "431");
    let many = format!("GET http://host/ HTTP/1.1\r\n{}", "X: x\r\n".repeat(101));
    assert_status(&exchange(at, many.as_bytes()), "431");
    proxy.interrupt_and_finish();
}

#[test]
fn an_origin_that_cannot_be_reached_or_fails_is_a_502() {
    let (proxy, at) = proxy();
    assert_status(&exchange(at, &get(&format!("http://{}/", closed_port()))), "502");
    assert_status(&exchange(at, &get("http://no-such-host.invalid/")), "502");
    let silent = serve(|mut stream| drop(read_head(&mut stream)));
    assert_status(&exchange(at, &get(&format!("http://{silent}/"))), "502");
    let confused = serve(|mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"220 mail.example.org ESMTP\r\n\r\n");
    });
    assert_status(&exchange(at, &get(&format!("http://{confused}/"))), "502");
    proxy.interrupt_and_finish();
}

#[test]
fn an_origin_that_never_answers_is_a_504() {
    let proxy = Program::example("http_proxy", &["127.0.0.1:0", "--timeout", "1"]);
    let at = proxy.address();
    let (stop, stopped) = channel::<()>();
    let stopped = std::sync::Mutex::new(stopped);
    let origin = serve(move |mut stream| {
        read_head(&mut stream);
        let _ = stopped.lock().expect("one connection").recv();
    });
    assert_status(&exchange(at, &get(&format!("http://{origin}/"))), "504");
    drop(stop);
    proxy.interrupt_and_finish();
}

#[test]
fn an_answer_cut_short_does_not_look_complete() {
    let origin = serve(|mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nwo");
    });
    let (proxy, at) = proxy();
    let mut stream = dial(at);
    stream.write_all(&get(&format!("http://{origin}/"))).expect("sent");
    let mut answer = Vec::new();
    let outcome = stream.read_to_end(&mut answer).map_err(|error| error.kind());
    assert_eq!(outcome, Err(ErrorKind::ConnectionReset), "{}", String::from_utf8_lossy(&answer));
    proxy.interrupt_and_finish();
}

#[test]
fn a_client_that_leaves_early_harms_nobody() {
    let folder = folder("http_proxy_leave");
    noise_file(&folder, 20_000_000);
    let (_server, origin) = Program::file_server(&folder);
    let (proxy, at) = proxy();
    for _ in 0..10 {
        let mut stream = dial(at);
        stream.write_all(&get(&format!("http://{origin}/20000000"))).expect("sent");
        let mut first = [0; 100];
        stream.read_exact(&mut first).expect("the answer begins");
    }
    assert_status(&exchange(at, &get(&format!("http://{origin}/"))), "200");
    proxy.interrupt_and_finish();
}

/// 499 requests are answered while the one before them waits for its origin.
#[test]
fn five_hundred_concurrent_requests_do_not_wait_for_a_slow_one() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    socket.listen(1_024).expect("listening");
    let listener = TcpListener::from(socket);
    let origin = listener.local_addr().expect("bound");
    let (release, released) = channel::<()>();
    let (arrive, arrived) = channel();
    std::thread::spawn(move || {
        let mut slow = None;
        for mut stream in listener.incoming().map_while(Result::ok) {
            let head = read_head(&mut stream);
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            if path == "/slow" {
                let _ = arrive.send(());
                slow = Some(stream);
                continue;
            }
            if path == "/release" {
                let _ = released.recv();
                if let Some(mut slow) = slow.take() {
                    let _ = slow.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n/slow");
                }
            }
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
            let _ = stream.write_all(answer.as_bytes());
        }
    });

    let proxy = Program::example_with_files(4_096, "http_proxy", &["127.0.0.1:0"]);
    let at = proxy.address();
    let ask = |path: &str| {
        let mut stream = dial(at);
        stream.write_all(&get(&format!("http://{origin}{path}"))).expect("sent");
        stream
    };
    let mut slow = ask("/slow");
    arrived.recv_timeout(PATIENCE).expect("the slow request is at its origin");

    let fast: Vec<_> = (0..499).map(|n| (n, ask(&format!("/{n}")))).collect();
    for (n, mut stream) in fast {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert_status(&answer, "200");
        assert!(answer.ends_with(&format!("\r\n\r\n/{n}")), "request {n} got {answer:?}");
    }
    slow.set_nonblocking(true).expect("settable");
    let early = slow.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(early, Err(ErrorKind::WouldBlock), "the slow one is still waiting");

    release.send(()).expect("the origin runs");
    assert_status(&exchange(at, &get(&format!("http://{origin}/release"))), "200");
    slow.set_nonblocking(false).expect("settable");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with("/slow"), "{answer:?}");
    proxy.interrupt_and_finish();
}
