//! The others: started as children of this process, talked to over their standard streams.
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use twistlet::green::process::{Child, Command, Stdio};
use twistlet::green::{Event, spawn};
use twistlet::{Failure, Result};

/// The authority's certificate, and the server's with its key.
pub struct Files {
    pub root: PathBuf,
    pub chain: PathBuf,
    pub key: PathBuf,
}
impl Files {
    pub fn write(root: &str, chain: &str, key: &str) -> Result<Files> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("interop-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let put = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).map(|()| path)
        };
        Ok(Files { root: put("root.pem", root)?, chain: put("chain.pem", chain)?, key: put("key.pem", key)? })
    }
}
impl Drop for Files {
    fn drop(&mut self) {
        let _ = self.root.parent().map(fs::remove_dir_all);
    }
}

/// A server of somebody else's; killed when dropped.
pub struct Served {
    child: Child,
    pub port: u16,
}
impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of the Python programs beside this file.
pub struct Peer<'a> {
    python: String,
    script: PathBuf,
    files: &'a Files,
    needs: Option<&'static str>,
}

impl<'a> Peer<'a> {
    pub fn twisted(python: &str, files: &'a Files) -> Peer<'a> {
        Peer::new(python, "twisted_peer.py", files, Some("twisted"))
    }
    pub fn python_ssl(python: &str, files: &'a Files) -> Peer<'a> {
        Peer::new(python, "ssl_peer.py", files, None)
    }
    fn new(python: &str, script: &str, files: &'a Files, needs: Option<&'static str>) -> Peer<'a> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(script);
        Peer { python: python.to_owned(), script, files, needs }
    }
    /// Of the library it needs, if that is there.
    pub fn version(&self) -> Option<String> {
        let name = self.needs?;
        let code = format!("import {name}, OpenSSL, service_identity; print({name}.__version__)");
        let output = Command::new(&self.python).args(["-c", &code]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
    /// Has it talk to our server; gives what it says of that.
    pub fn talk(&self, kind: &str, port: u16) -> Result<String> {
        let mut command = Command::new(&self.python);
        command.arg(&self.script).arg("talk");
        if !kind.is_empty() {
            command.arg(kind);
        }
        answer(command.arg(port.to_string()).arg(&self.files.root))
    }
    pub fn serve(&self, kind: &str) -> Result<Served> {
        let mut command = Command::new(&self.python);
        command.arg(&self.script).arg("serve");
        if !kind.is_empty() {
            command.arg(kind);
        }
        command.args([&self.files.chain, &self.files.key]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            let mut output = BufReader::new(output);
            output.read_line(&mut line)?;
            // What else it says has somewhere to go.
            spawn(move || output.lines().map_while(|line| line.ok()).for_each(drop));
        }
        let port =
            line.trim().parse().map_err(|_| Failure::msg(format!("the server said {line:?} instead of its port")))?;
        Ok(Served { child, port })
    }
}

/// What a command says that ends well.
fn answer(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !said.is_empty() {
        return Ok(said);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let end: Vec<&str> = errors.lines().rev().take(4).collect();
    Err(Failure::msg(format!("{}: {said} {}", output.status, end.join(" < "))))
}

/// Lines through a command's standard streams: all must come back.
fn through(command: &mut Command) -> Result<String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let lines: Vec<String> = (1..40).map(|n| "x".repeat(n * n)).collect();
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Failure::msg("no pipes"));
    };
    let (sent, done) = (lines.clone(), Event::new());
    let finish = done.clone();
    let writer = spawn(move || {
        for line in sent {
            // s_client takes a Q at the front of a line for a command; there is none in these.
            input.write_all(line.as_bytes())?;
            input.write_all(b"\r\n")?;
        }
        // Kept open until all is back: its end is the connection's.
        finish.wait()
    });
    let mut came = BufReader::new(output).lines();
    for line in &lines {
        let answer = loop {
            match came.next() {
                // What s_client says itself, and the end of the SMTP greeting.
                Some(Ok(answer)) if !answer.starts_with('x') => continue,
                Some(answer) => break answer?,
                None => return Err(Failure::msg("s_client ended early")),
            }
        };
        if answer.trim_end() != line {
            return Err(Failure::msg(format!("{} bytes came back as {}", line.len(), answer.len())));
        }
    }
    done.send(());
    writer.wait()?;
    child.wait()?;
    Ok(format!("{} lines", lines.len()))
}

fn openssl(port: u16, files: &Files) -> Command {
    let mut command = Command::new("openssl");
    command.args([
        "s_client",
        "-quiet",
        "-no_ign_eof",
        "-verify_return_error",
        "-verify_hostname",
        "localhost",
        "-CAfile",
    ]);
    command.arg(&files.root).args(["-connect", &format!("127.0.0.1:{port}"), "-servername", "localhost"]);
    command
}
pub fn s_client(port: u16, files: &Files) -> Result<String> {
    through(openssl(port, files).args(["-alpn", "lines"]))
}
pub fn s_client_starttls(port: u16, files: &Files) -> Result<String> {
    through(openssl(port, files).args(["-starttls", "smtp"]))
}
pub fn s_server(files: &Files) -> Result<Served> {
    let mut command = Command::new("openssl");
    command.args(["s_server", "-rev", "-accept", "127.0.0.1:0", "-cert"]).arg(&files.chain).arg("-key").arg(&files.key);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let output = child.stdout.take().ok_or_else(|| Failure::msg("no pipe"))?;
    let mut lines = BufReader::new(output).lines();
    // ACCEPT 127.0.0.1:41234
    let port = loop {
        match lines.next() {
            Some(line) => match line?.strip_prefix("ACCEPT ").and_then(|at| at.rsplit(':').next()?.parse().ok()) {
                Some(port) => break port,
                None => continue,
            },
            None => return Err(Failure::msg("s_server ended before it accepted")),
        }
    };
    spawn(move || lines.map_while(|line| line.ok()).for_each(drop));
    Ok(Served { child, port })
}

/// A page, and who the server says it gave it to.
pub fn curl(port: u16, files: &Files, behind_proxy: bool) -> Result<String> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "30", "--noproxy", "*"]);
    let said = if behind_proxy {
        answer(command.args(["--haproxy-protocol", &format!("http://127.0.0.1:{port}/")]))?
    } else {
        let to = format!("localhost:{port}:127.0.0.1");
        answer(command.args(["--resolve", &to, "--cacert"]).arg(&files.root).arg(format!("https://localhost:{port}/")))?
    };
    if said == "you are 127.0.0.1" { Ok(said) } else { Err(Failure::msg(format!("curl got {said:?}"))) }
}
