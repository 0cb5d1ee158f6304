//! cargo run --example std_port -- ADDRESS [REQUESTS]
//!
//! The blocking web server that textbooks build: a pool of threads, each of which takes a connection from a queue behind a
//! mutex, reads a request and writes a page. All of it is written for std. The next line is the port: what was a thread is a
//! green thread, and a hundred of them cost one OS thread and a few pages each.
use twistlet::green as std;

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs on so many threads; dropped, it waits for those that run.
struct ThreadPool {
    jobs: Option<Sender<Job>>,
    workers: Vec<JoinHandle<usize>>,
}

impl ThreadPool {
    fn new(size: usize) -> io::Result<ThreadPool> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let workers = (0..size)
            .map(|number| {
                let queue = Arc::clone(&queue);
                thread::Builder::new().name(format!("worker {number}")).spawn(move || work(&queue))
            })
            .collect::<io::Result<_>>()?;
        Ok(ThreadPool { jobs: Some(jobs), workers })
    }
    fn execute(&self, job: impl FnOnce() + Send + 'static) {
        if let Some(jobs) = &self.jobs {
            jobs.send(Box::new(job)).expect("the workers live as long as the pool");
        }
    }
}

/// One of them at a time waits for a job, the others for their turn to wait.
fn work(queue: &Mutex<Receiver<Job>>) -> usize {
    let mut done = 0;
    loop {
        let job = queue.lock().expect("no worker panics here").recv();
        let Ok(job) = job else { return done };
        job();
        done += 1;
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.jobs = None;
        for worker in self.workers.drain(..) {
            let name = worker.thread().name().unwrap_or("a worker").to_owned();
            match worker.join() {
                Ok(0) => {}
                Ok(done) => println!("{name} has answered {done}"),
                Err(_) => eprintln!("{name} has panicked"),
            }
        }
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(&stream).lines();
    let Some(request) = lines.next() else { return Ok(()) };
    let request = request?;
    // The rest of the head; a server of the real world would bound it.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let (status, page) = match request.as_str() {
        "GET / HTTP/1.1" => ("200 OK", "<h1>Hello</h1><p>from a green thread</p>"),
        "GET /slow HTTP/1.1" => {
            thread::sleep(Duration::from_millis(500));
            ("200 OK", "<h1>Hello</h1><p>after half a second, which held up nobody else</p>")
        }
        _ => ("404 Not Found", "<h1>Oops</h1><p>There is no such page.</p>"),
    };
    let length = page.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}")
}

fn run(address: &str, requests: usize) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let pool = ThreadPool::new(100)?;
    for stream in listener.incoming().take(requests) {
        let stream = stream?;
        pool.execute(move || {
            if let Err(error) = answer(stream) {
                eprintln!("a request: {error}");
            }
        });
    }
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (address, requests) = match &args[..] {
        [address] if address.contains(':') => (address, Some(usize::MAX)),
        [address, requests] if address.contains(':') => (address, requests.parse().ok()),
        _ => (&String::new(), None),
    };
    let Some(requests) = requests else {
        eprintln!("usage: std_port ADDRESS:PORT [REQUESTS]      (REQUESTS: ends after so many)");
        return ExitCode::from(2);
    };
    match run(address, requests) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("std_port: {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

// Try it:
//     cargo run --example std_port -- 127.0.0.1:8080
//     curl http://127.0.0.1:8080/slow & curl http://127.0.0.1:8080/
