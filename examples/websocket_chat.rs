//! cargo run --example websocket_chat [PORT | ADDRESS:PORT]
//!
//! A chat room over WebSockets: tungstenite, a blocking library, unchanged on green sockets. With a port it serves until Ctrl-C;
//! without, three clients of its own meet in the room and leave again.
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Error, Message, WebSocket};
use twistlet::green::net::{TcpListener, TcpStream};
use twistlet::green::{Event, GreenThread, Queue, join_reactor, spawn, wait_all};
use twistlet::{Failure, Reactor, Result};

/// Who lets so many messages lie is shown the door: one slow reader must not cost the room its memory.
const PATIENCE: usize = 1_000;
const LONGEST: usize = 64 * 1024;

/// Everybody's outbox, by the order they came.
#[derive(Clone, Default)]
struct Room(Rc<RefCell<BTreeMap<SocketAddr, Outbox>>>);

#[derive(Clone)]
struct Outbox {
    frames: Queue<Bytes>,
    stream: Rc<TcpStream>,
}

impl Room {
    /// To everybody but `from`. Never waits.
    fn say(&self, from: SocketAddr, text: &str) {
        println!("{text}");
        let mut frame = Vec::new();
        let message = Frame::message(text.to_owned(), OpCode::Data(Data::Text), true);
        if message.format(&mut frame).is_err() {
            return;
        }
        // Written once; all outboxes share it.
        let frame = Bytes::from(frame);
        for (_, outbox) in self.0.borrow().iter().filter(|(peer, _)| **peer != from) {
            if outbox.frames.try_put(frame.clone()).is_err() {
                let _ = outbox.stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }
    fn enter(&self, peer: SocketAddr, outbox: Outbox) -> usize {
        let mut room = self.0.borrow_mut();
        room.insert(peer, outbox);
        room.len()
    }
    fn leave(&self, peer: SocketAddr) {
        let left = self.0.borrow_mut().remove(&peer);
        if left.is_some() {
            self.say(peer, &format!("{peer} has left"));
        }
    }
}

/// The connection as tungstenite reads it. What it writes by itself, such as pongs, takes its turn in the outbox, behind what the
/// room says.
struct Line {
    reader: TcpStream,
    outbox: Queue<Bytes>,
}
impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}
impl Write for Line {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self.outbox.try_put(Bytes::copy_from_slice(data)) {
            Ok(()) => Ok(data.len()),
            Err(_) => Err(io::Error::other("the outbox is full")),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One participant, from handshake to end: blocking code on a green thread.
fn serve(room: &Room, stream: TcpStream, peer: SocketAddr) -> Result {
    stream.set_nodelay(true)?;
    let frames: Queue<Bytes> = Queue::bounded(PATIENCE);
    let (mut writer, outgoing) = (stream.try_clone()?, frames.clone());
    let writing = spawn(move || {
        while let Ok(frame) = outgoing.get() {
            if frame.is_empty() {
                break; // the end
            }
            writer.write_all(&frame)?;
        }
        Ok(writer.shutdown(std::net::Shutdown::Write)?)
    });
    let outbox = Outbox { frames: frames.clone(), stream: Rc::new(stream.try_clone()?) };
    let outcome = converse(room, Line { reader: stream, outbox: frames.clone() }, outbox, peer);
    room.leave(peer);
    if frames.try_put(Bytes::new()).is_err() {
        writing.kill(); // whoever left a full outbox will not read it
    }
    // What was still to be sent, the answer to a close among it.
    drop(writing.wait());
    outcome
}
fn converse(room: &Room, line: Line, outbox: Outbox, peer: SocketAddr) -> Result {
    let config = tungstenite::protocol::WebSocketConfig::default().max_message_size(Some(LONGEST));
    let mut socket =
        tungstenite::accept_with_config(line, Some(config)).map_err(|error| Failure::msg(error.to_string()))?;
    let present = room.enter(peer, outbox);
    socket.send(Message::text(format!("welcome, {peer}: {present} present")))?;
    room.say(peer, &format!("{peer} has come"));
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => room.say(peer, &format!("{peer}: {text}")),
            Ok(_) => {}
            Err(Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn run(listener: &TcpListener) {
    let room = Room::default();
    for stream in listener.incoming() {
        let room = room.clone();
        spawn(move || {
            let stream = stream?;
            let peer = stream.peer_addr()?;
            serve(&room, stream, peer).or_else(|failure| {
                println!("{peer}: {failure}");
                Ok::<_, Failure>(())
            })
        });
    }
}

/// Three clients: each says something once all are there, and leaves when it has heard everybody.
fn demonstrate(at: SocketAddr) -> Result {
    const NAMES: [&str; 3] = ["Ada", "Grace", "Barbara"];
    let all_here = Event::new();
    let mut clients: Vec<GreenThread<()>> = Vec::new();
    for name in NAMES {
        // One after the other, so that the room fills in this order.
        let mut socket = enter(at)?;
        println!("{name} <- {}", socket.read()?);
        let all_here = all_here.clone();
        clients.push(spawn(move || {
            all_here.wait()?;
            socket.send(Message::text(format!("{name} says hello")))?;
            let mut heard = 1;
            while heard < NAMES.len() {
                let text = socket.read()?.into_text()?;
                println!("{name} <- {text}");
                heard += usize::from(text.ends_with("says hello"));
            }
            socket.close(None)?;
            while socket.read().is_ok() {}
            Ok(())
        }));
    }
    all_here.send(());
    wait_all(clients).into_iter().collect()
}
fn enter(at: SocketAddr) -> Result<WebSocket<TcpStream>> {
    let stream = TcpStream::connect(at)?;
    let (socket, _) = tungstenite::client(format!("ws://{at}/"), stream).map_err(|e| Failure::msg(e.to_string()))?;
    Ok(socket)
}

/// A port alone means every IPv4 interface.
fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| Some(([0, 0, 0, 0], text.parse().ok()?).into()))
}

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let at = listener.local_addr()?;
            let closing = listener.try_clone()?;
            let server = spawn(move || run(&listener));
            demonstrate(at)?;
            closing.close();
            server.wait()?;
        }
        [at] if address(at).is_some() => {
            let reactor = Reactor::new()?;
            join_reactor(&reactor)?;
            let listener = TcpListener::bind(address(at).as_slice())?;
            println!("listening on {}", listener.local_addr()?);
            spawn(move || run(&listener));
            reactor.run()?; // until Ctrl-C
        }
        _ => {
            eprintln!("usage: websocket_chat [PORT | ADDRESS:PORT]      (without: a demonstration)");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

// Try it, with a browser's console:
//     cargo run --example websocket_chat 8765
//     let s = new WebSocket("ws://localhost:8765"); s.onmessage = m => console.log(m.data); s.onopen = () => s.send("hello")
