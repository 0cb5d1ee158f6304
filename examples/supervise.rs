//! cargo run --example supervise
//!
//! A supervisor and its workers: `proc` links tell it of each end, and it starts again what failed.
//!
//! Three workers do five jobs each; some fail or panic on the way. A worker that fails is started again and goes on where the
//! other one stopped; one that fails too often is given up. A second program of the same kind shows the other use of links:
//! partners that end together.
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use twistlet::green::proc::{self, LinkedExited, Proc};
use twistlet::green::{Queue, sleep};
use twistlet::{Failure, Result};

const JOBS: u32 = 5;
const RESTARTS: u32 = 3;

fn main() -> Result {
    if std::env::args().len() > 1 {
        eprintln!("usage: supervise");
        std::process::exit(2);
    }
    // The panic below is a part of the show: the report of its failure is enough.
    std::panic::set_hook(Box::new(|_| ()));
    let supervisor = proc::spawn(supervise);
    let (done, given_up) = supervisor.wait()?;
    println!("{done} jobs are done, {given_up} worker was given up");
    partners()?;
    Ok(())
}

/// What a worker is, beyond one life of its.
struct Worker {
    name: &'static str,
    done: Rc<Cell<u32>>,
    restarts: u32,
}

/// Starts the workers, and starts them again when they fail.
fn supervise() -> Result<(u32, u32)> {
    let ends = Queue::new();
    let mut workers: Vec<Worker> =
        ["careful", "clumsy", "hopeless"].map(|name| Worker { name, done: Rc::default(), restarts: 0 }).into();
    for (number, worker) in workers.iter().enumerate() {
        start(worker, number, &ends);
    }
    let (mut running, mut given_up) = (workers.len(), 0);
    while running > 0 {
        let (number, failure): (usize, Option<Failure>) = ends.wait()?;
        let worker = &mut workers[number];
        match failure {
            None => {
                println!("{} has done its {} jobs", worker.name, worker.done.get());
                running -= 1;
            }
            Some(failure) if worker.restarts < RESTARTS => {
                worker.restarts += 1;
                println!("{} failed ({failure}): started again, for the {}. time", worker.name, worker.restarts);
                start(worker, number, &ends);
            }
            Some(failure) => {
                println!("{} failed ({failure}): given up", worker.name);
                running -= 1;
                given_up += 1;
            }
        }
    }
    Ok((workers.iter().map(|worker| worker.done.get()).sum(), given_up))
}

/// One life of a worker, whose end goes into the queue.
fn start(worker: &Worker, number: usize, ends: &Queue<(usize, Option<Failure>)>) {
    let (name, done, ends) = (worker.name, Rc::clone(&worker.done), ends.clone());
    let life = proc::spawn(move || work(name, &done));
    life.set_name(name);
    life.link(move |outcome| ends.send((number, outcome.err().cloned())));
}

fn work(name: &str, done: &Cell<u32>) -> Result {
    while done.get() < JOBS {
        sleep(Duration::from_millis(2));
        let job = done.get() + 1;
        match name {
            "hopeless" if job == 2 => return Err(Failure::msg("no idea how to do job 2")),
            "clumsy" if job.is_multiple_of(2) => {
                // It has done the job before it drops it.
                done.set(job);
                panic!("dropped job {job}");
            }
            _ => done.set(job),
        }
    }
    Ok(())
}

/// Two that are linked to each other: when one ends the other is ended, its destructors included.
fn partners() -> Result {
    struct Tidy(&'static str);
    impl Drop for Tidy {
        fn drop(&mut self) {
            println!("{} has tidied up", self.0);
        }
    }
    let partner = |name, time| -> Proc<()> {
        let proc = proc::spawn(move || {
            let _tidy = Tidy(name);
            sleep(Duration::from_millis(time));
            Ok(())
        });
        proc.set_name(name);
        proc
    };
    let (quick, slow) = (partner("the quick one", 3), partner("the slow one", 60_000));
    quick.link_to(slow.clone());
    slow.link_to(quick.clone());
    quick.wait()?;
    match slow.wait() {
        Err(failure) if failure.is::<LinkedExited>() => println!("{failure}"),
        outcome => println!("not as expected: {outcome:?}"),
    }
    Ok(())
}

// Try it: there is nothing to poke; it shows what becomes of each worker, and ends.
