//! cargo run --example process_filter -- PROGRAM [ARGUMENT...]
//!
//! Text through a child process, by callbacks: what comes in on standard input goes to the program, what the program says goes to
//! standard output, in upper case, and its complaints to standard error with its name before them. Without a program it is `sort`.
//!
//! Neither side is read faster than the other takes it, so that endless input costs no more memory than a little does. When
//! whoever reads our output goes away (`| head -1`), the program loses its reader too, as in any pipeline.
//! The exit status is the program's, and 128 and the signal when a signal ended it.
use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;
use twistlet::transport::process::{Command, ExitReason, ProcessProtocol, ProcessRef};
use twistlet::{ConnectionClosed, Producer, Protocol, Reactor, Result, TransportRef};

/// Holds a source back while its consumer is full. When the consumer goes away the source is left alone: who is told of that
/// decides.
struct Source(TransportRef);
impl Producer for Source {
    fn pause_producing(&mut self) {
        self.0.pause_producing();
    }
    fn resume_producing(&mut self) {
        self.0.resume_producing();
    }
    fn stop_producing(&mut self) {
        self.0.resume_producing();
    }
}

/// Our standard input and output.
struct Ours {
    process: ProcessRef,
    reactor: Reactor,
}
impl Protocol for Ours {
    fn connection_made(&mut self, transport: TransportRef) {
        self.process.register_producer(Source(transport));
        if let Some(output) = self.process.pipe(1) {
            transport.register_producer(Source(output));
        }
    }
    fn data_received(&mut self, _transport: TransportRef, data: &[u8]) {
        self.process.write(data);
    }
    /// The end of our input is the end of the program's; its output is still to come.
    fn read_connection_lost(&mut self, _transport: TransportRef) {
        self.process.unregister_producer();
        self.process.close_stdin();
    }
    /// Nobody reads any more.
    fn write_connection_lost(&mut self, _transport: TransportRef) {
        self.process.close_stdout();
    }
    fn connection_lost(&mut self, _transport: TransportRef, _reason: &ConnectionClosed) {
        let _ = self.reactor.stop();
    }
}

/// The program.
struct Theirs {
    name: String,
    reactor: Reactor,
    ours: Option<TransportRef>,
    status: Rc<Cell<u8>>,
}
impl Theirs {
    /// Nothing more will come for our output.
    fn finish(&mut self) {
        match self.ours.take() {
            Some(ours) => {
                ours.unregister_producer();
                ours.lose_connection();
            }
            None => drop(self.reactor.stop()),
        }
    }
}
impl ProcessProtocol for Theirs {
    fn connection_made(&mut self, process: ProcessRef) {
        match self.reactor.stdio(Ours { process, reactor: self.reactor }) {
            Ok(ours) => self.ours = Some(ours),
            Err(failure) => {
                eprintln!("process_filter: no standard input and output: {failure}");
                let _ = process.kill();
            }
        }
    }
    fn out_received(&mut self, _process: ProcessRef, data: &[u8]) {
        if let Some(ours) = self.ours {
            ours.write(data.to_ascii_uppercase());
        }
    }
    fn err_received(&mut self, _process: ProcessRef, data: &[u8]) {
        for line in String::from_utf8_lossy(data).lines() {
            eprintln!("{}: {line}", self.name);
        }
    }
    fn process_ended(&mut self, _process: ProcessRef, reason: &ExitReason) {
        if !reason.is_success() {
            eprintln!("{}: {reason}", self.name);
        }
        let signal = reason.signal().map(|signal| 128 + signal.number());
        let status = reason.code().or(signal).and_then(|status| u8::try_from(status).ok());
        self.status.set(status.unwrap_or(1));
        self.finish();
    }
}

fn filter(words: &[String]) -> Result<u8> {
    let (name, arguments) = match words {
        [] => ("sort".to_owned(), &[][..]),
        [program, arguments @ ..] => (program.clone(), arguments),
    };
    let status = Rc::new(Cell::new(1));
    let reactor = Reactor::new()?;
    let command = Command::new(&name).args(arguments);
    reactor.spawn_process(Theirs { name, reactor, ours: None, status: Rc::clone(&status) }, command)?;
    reactor.run()?;
    Ok(status.get())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match filter(&words) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("process_filter: {failure}");
            ExitCode::from(127)
        }
    }
}

// Try it:
//     printf 'pear\napple\n' | cargo run --example process_filter -- sort
