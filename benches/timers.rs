//! Timers: made and cancelled, with few and with a million others pending.
//! `cargo bench --bench timers`
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use twistlet::Reactor;

fn create_and_cancel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timer create and cancel");
    for pending in [1u64, 1_000_000] {
        let reactor = Reactor::new().expect("a thread's first reactor");
        for n in 0..pending {
            // Spread over an hour, in no order.
            reactor.call_later(Duration::from_millis(1_000 + n * 7_919 % 3_600_000), || ());
        }
        group.bench_function(format!("{pending} pending"), |bencher| {
            let mut n = 0u64;
            bencher.iter(|| {
                n += 1;
                let delay = Duration::from_millis(1_000 + n * 104_729 % 60_000);
                let call = reactor.call_later(delay, move || {
                    black_box(n);
                });
                assert!(call.cancel());
            });
        });
        reactor.close();
    }
}

criterion_group!(timers, create_and_cancel);
criterion_main!(timers);
