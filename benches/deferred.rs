//! Deferreds: made, given one callback and fired; and what each further link of a chain adds.
//! `cargo bench --bench deferred`
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use twistlet::Deferred;

fn one_callback(criterion: &mut Criterion) {
    criterion.bench_function("new, add_callback, fire", |bencher| {
        bencher.iter(|| {
            let (promise, deferred) = Deferred::<u64>::new();
            let deferred = deferred.add_callback(|n| Ok(n + 1));
            promise.callback(black_box(41));
            black_box(deferred.try_take().is_ok())
        });
    });
    criterion.bench_function("succeed, add_callback", |bencher| {
        bencher.iter(|| {
            let deferred = Deferred::succeed(black_box(41u64)).add_callback(|n| Ok(n + 1));
            black_box(deferred.try_take().is_ok())
        });
    });
}

fn links(criterion: &mut Criterion) {
    const LINKS: u64 = 100;
    let mut group = criterion.benchmark_group("links of a chain");
    group.throughput(Throughput::Elements(LINKS));
    group.bench_function("plain values", |bencher| {
        bencher.iter(|| {
            let (promise, mut deferred) = Deferred::<u64>::new();
            for _ in 0..LINKS {
                deferred = deferred.add_callback(|n| Ok(n + 1));
            }
            promise.callback(black_box(0));
            black_box(deferred.try_take().is_ok())
        });
    });
    group.bench_function("each returns a Deferred that has fired", |bencher| {
        bencher.iter(|| {
            let (promise, mut deferred) = Deferred::<u64>::new();
            for _ in 0..LINKS {
                deferred = deferred.add_callback(|n| Deferred::succeed(n + 1));
            }
            promise.callback(black_box(0));
            black_box(deferred.try_take().is_ok())
        });
    });
}

criterion_group!(deferred, one_callback, links);
criterion_main!(deferred);
