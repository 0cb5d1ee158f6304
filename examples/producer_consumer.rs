//! cargo run --example producer_consumer -- [JOBS]
//!
//! Producers and consumers around a bounded queue: who is faster waits for the others, and `join` waits for the work to be done.
//!
//! Three producers put jobs into a queue with room for five; four consumers take them, each as fast as it can. A monitor looks
//! at them through a `Select`, until everything is done.
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use twistlet::green::{Event, Queue, Select, sleep, spawn, wait_all};

const PRODUCERS: u32 = 3;
const CONSUMERS: u32 = 4;

fn main() -> twistlet::Result {
    let mut args = std::env::args().skip(1);
    let jobs: u32 = match (args.next().map(|jobs| jobs.parse()), args.next()) {
        (None, _) => 60,
        (Some(Ok(jobs)), None) => jobs,
        _ => {
            eprintln!("usage: producer_consumer [JOBS]");
            std::process::exit(2);
        }
    };
    let queue = Queue::bounded(5);
    let done = Rc::new(Cell::new(0u32));
    let finished = Event::<()>::new();

    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let queue = queue.clone();
            spawn(move || {
                // Every third job is this one's; put() waits while the queue is full.
                for job in (producer..jobs).step_by(PRODUCERS as usize) {
                    queue.put(job)?;
                }
                Ok(())
            })
        })
        .collect();
    let consumers: Vec<_> = (0..CONSUMERS)
        .map(|consumer| {
            let (queue, done) = (queue.clone(), Rc::clone(&done));
            spawn(move || -> twistlet::Result {
                loop {
                    let job = queue.get()?;
                    sleep(Duration::from_millis(u64::from(1 + (job + consumer) % 3)));
                    done.set(done.get() + 1);
                    println!("consumer {consumer} did job {job}");
                    queue.task_done();
                }
            })
        })
        .collect();
    let monitor = {
        let (queue, done, finished) = (queue.clone(), Rc::clone(&done), finished.clone());
        spawn(move || {
            loop {
                let over = Select::new()
                    .on(&finished, |outcome| outcome.map(|()| true))
                    .after(Duration::from_millis(10), || Ok(false))
                    .wait()??;
                println!("{} done, {} in the queue, {} producers wait", done.get(), queue.len(), queue.putting());
                if over {
                    return Ok(());
                }
            }
        })
    };

    for outcome in wait_all(producers) {
        outcome?;
    }
    // Not only taken: done.
    queue.join()?;
    finished.send(());
    monitor.wait()?;
    for consumer in &consumers {
        // They wait for jobs that will not come.
        consumer.kill();
    }
    wait_all(consumers);
    println!("all {} jobs are done", done.get());
    assert_eq!(done.get(), jobs);
    Ok(())
}

// Try it:
//     cargo run --example producer_consumer -- 1000
