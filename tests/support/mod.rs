//! Runs the example programs as their users do, and waits for what they say rather than for time to pass.
#![allow(dead_code)] // each test file uses a part
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// When to give up on an event that should come at once: only a failing test ever waits as long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A child process whose lines of output can be waited for. Killed when dropped.
pub struct Program {
    name: String,
    child: Child,
    lines: Receiver<String>,
    errors: Arc<Mutex<String>>,
    /// Until stderr is at its end.
    listener: Option<JoinHandle<()>>,
}

impl Program {
    /// Starts `examples/NAME.rs`.
    pub fn example(name: &str, args: &[&str]) -> Program {
        Program::start(Command::new(example(name)).args(args))
    }

    /// The same, with room for `limit` open files.
    pub fn example_with_files(limit: u32, name: &str, args: &[&str]) -> Program {
        let script = format!("ulimit -n {limit} && exec \"$@\"");
        Program::start(Command::new("sh").args(["-c", &script, "sh"]).arg(example(name)).args(args))
    }

    /// `python3 -m http.server` on a folder, and its address.
    pub fn file_server(folder: &Path) -> (Program, SocketAddr) {
        let arguments = ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"];
        let server = Program::start(Command::new("python3").args(arguments).arg(folder));
        // Serving HTTP on 127.0.0.1 port 41234 (http://127.0.0.1:41234/) ...
        let line = server.line();
        let port = line.split("port ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        (server, ([127, 0, 0, 1], port.unwrap_or_else(|| panic!("http.server said {line:?}"))).into())
    }

    pub fn start(command: &mut Command) -> Program {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        // Always drained, so that the program never waits for its reader.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let errors = Arc::new(Mutex::new(String::new()));
        let (collected, output) = (errors.clone(), BufReader::new(child.stderr.take().expect("piped")));
        let listener = std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let mut collected = collected.lock().expect("no panic inside");
                collected.push_str(&line);
                collected.push('\n');
            }
        });
        Program { name, child, lines, errors, listener: Some(listener) }
    }

    /// The next line of its output.
    #[track_caller]
    pub fn line(&self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(error) => panic!("{}: no further line ({error}); on stderr:\n{}", self.name, self.errors()),
        }
    }

    /// Lines up to the first that contains `text`.
    #[track_caller]
    pub fn line_with(&self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Where it says it listens.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        let line = self.line_with("listening on ");
        let (_, address) = line.split_once("listening on ").expect("just found");
        let address: SocketAddr = address.trim().parse().unwrap_or_else(|_| panic!("no address in {line:?}"));
        if address.ip().is_unspecified() { ([127, 0, 0, 1], address.port()).into() } else { address }
    }

    pub fn errors(&self) -> String {
        self.errors.lock().expect("no panic inside").clone()
    }

    /// A line of `/proc/PID/status` in KiB: `VmRSS` now, `VmHWM` at most so far.
    pub fn memory(&self, which: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs, on Linux");
        let line = status.lines().find(|line| line.starts_with(which)).expect("such a line");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        let sent = Command::new("sh").args(["-c", &format!("kill -INT {}", self.child.id())]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{} could not be interrupted", self.name);
    }

    /// Waits for its end: status, remaining output, everything on stderr.
    #[track_caller]
    pub fn finish(mut self) -> (ExitStatus, Vec<String>, String) {
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("{} does not end; stderr:\n{}", self.name, self.errors()),
            }
        }
        let status = self.child.wait().expect("waitable");
        if let Some(listener) = self.listener.take() {
            listener.join().expect("no panic inside");
        }
        (status, rest, self.errors())
    }

    /// Ctrl-C, and a clean end.
    #[track_caller]
    pub fn interrupt_and_finish(self) {
        self.interrupt();
        let name = self.name.clone();
        let (status, rest, errors) = self.finish();
        assert_eq!(status.code(), Some(0), "{name} ended with {status} on Ctrl-C\n{rest:#?}\n{errors}");
        assert!(!errors.contains("panicked"), "{name} panicked:\n{errors}");
    }
}
impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `cargo test` builds the examples beside the tests: target/debug/deps/THIS and target/debug/examples/NAME.
pub fn example(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a test has a path");
    let profile = this.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let path = profile.join("examples").join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --examples`, or `cargo test` whole", path.display());
    path
}

/// Bytes that no mix-up of chunks leaves the same.
pub struct Noise {
    state: u64,
    left: u64,
}
impl Noise {
    pub fn new(length: u64) -> Noise {
        Noise { state: 0x9E37_79B9_7F4A_7C15, left: length }
    }
}
impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        for chunk in buffer[..length].chunks_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            chunk.copy_from_slice(&self.state.to_le_bytes()[..chunk.len()]);
        }
        // Whole words only, except at the end: otherwise the stream would depend on the sizes asked for.
        let length = if (length as u64) < self.left { length - length % 8 } else { length };
        self.left -= length as u64;
        Ok(length)
    }
}

/// A fresh folder of the test's own.
pub fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder in target/tmp");
    path
}

/// 0 B, 1 B, 1 MB and 200 MB: what forwarders and proxies must carry unharmed.
pub const SIZES: [u64; 4] = [0, 1, 1_000_000, 200_000_000];

/// Writes `length` bytes of noise to `folder/LENGTH`.
pub fn noise_file(folder: &Path, length: u64) -> PathBuf {
    let path = folder.join(length.to_string());
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).expect("a file"));
    std::io::copy(&mut BufReader::with_capacity(1 << 20, Noise::new(length)), &mut file).expect("room for it");
    file.flush().expect("room for it");
    path
}

pub fn sha256(path: &Path) -> String {
    let output = Command::new("openssl").args(["dgst", "-sha256", "-r"]).arg(path).output().expect("openssl runs");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).split(' ').next().expect("a digest").to_owned()
}

/// `curl ARGS`: its exit code, output and errors.
pub fn curl(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "300", "--noproxy", ""])
        .args(args)
        .output()
        .expect("curl runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A raw client, which gives up when nothing comes.
#[track_caller]
pub fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("settable");
    stream.set_write_timeout(Some(PATIENCE)).expect("settable");
    stream
}

/// Sends `request`, and gives what comes until the end.
#[track_caller]
pub fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = dial(address);
    stream.write_all(request).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer and its end");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A server of the test's own: `handle` for each connection, on a thread of its own, until the test ends.
pub fn serve(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let handle = Arc::new(handle);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let handle = handle.clone();
            std::thread::spawn(move || handle(stream));
        }
    });
    address
}

/// A port on which nobody listens.
pub fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// An HTTP head up to its empty line, read byte by byte so that nothing after it is taken.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}
