//! Green threads and greenlets: what a switch, a yield, a spawn and a wake-up cost.
//! `cargo bench --bench green`
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::{Duration, Instant};
use twistlet::green::{Event, spawn, wait_all, yield_now};
use twistlet::greenlet::Greenlet;

/// Times `work` from inside a green thread, where programs spend their time, rather than from the main greenlet.
fn in_green_thread(work: impl FnOnce() + 'static) -> Duration {
    spawn(move || {
        let start = Instant::now();
        work();
        Ok(start.elapsed())
    })
    .wait()
    .expect("the measured green thread ended")
}

fn switch(criterion: &mut Criterion) {
    criterion.bench_function("switch there and back", |bencher| {
        let here = Greenlet::current();
        let there = Greenlet::new(move |_| {
            loop {
                here.switch(())?;
            }
        });
        bencher.iter(|| black_box(there.switch(())).expect("it never ends"));
    });
}

fn yield_through_the_hub(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("yield through the hub");
    for threads in [1, 2, 100, 1_000, 10_000] {
        group.bench_function(format!("{threads} green threads"), |bencher| {
            bencher.iter_custom(|yields| {
                let each = yields / threads + 1;
                let elapsed = in_green_thread(move || {
                    let yielding = move || {
                        for _ in 0..each {
                            yield_now();
                        }
                    };
                    wait_all((0..threads).map(|_| spawn(yielding)).collect::<Vec<_>>());
                });
                elapsed.mul_f64(yields as f64 / (each * threads) as f64)
            });
        });
    }
}

fn spawn_and_join(criterion: &mut Criterion) {
    criterion.bench_function("spawn and join", |bencher| {
        bencher.iter_custom(|times| {
            in_green_thread(move || {
                for n in 0..times {
                    assert!(spawn(move || Ok(black_box(n))).wait().is_ok());
                }
            })
        });
    });
}

fn park_and_unpark(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("park and unpark");
    // One round wakes both sides once.
    group.throughput(Throughput::Elements(2));
    group.bench_function("two green threads through Events", |bencher| {
        bencher.iter_custom(|rounds| {
            in_green_thread(move || {
                let (ping, pong) = (Event::<()>::new(), Event::<()>::new());
                let other = {
                    let (ping, pong) = (ping.clone(), pong.clone());
                    spawn(move || {
                        for _ in 0..rounds {
                            ping.wait()?;
                            ping.reset();
                            pong.send(());
                        }
                        Ok(())
                    })
                };
                for _ in 0..rounds {
                    ping.send(());
                    pong.wait().expect("the other side answers");
                    pong.reset();
                }
                other.wait().expect("the other side ends");
            })
        });
    });
}

criterion_group!(green, switch, yield_through_the_hub, spawn_and_join, park_and_unpark);
criterion_main!(green);
