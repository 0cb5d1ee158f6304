use super::Greenlet;
use std::time::Instant;
#[test]
fn speed() {
    let main = Greenlet::current();
    let m = main.clone();
    let g = Greenlet::spawn_managed(None, move || loop { m.transfer() }).unwrap();
    for _ in 0..3 {
    let t = Instant::now();
    for _ in 0..10_000_000 { g.transfer() }
    println!("switch there and back {:.2} ns", t.elapsed().as_nanos() as f64 / 1e7);
    }
    for _ in 0..3 {
    let t = Instant::now();
    for i in 0..10_000_000u64 {
        let g = Greenlet::spawn_managed(None, move || { std::hint::black_box(i); }).unwrap();
        g.transfer();
        assert!(g.is_dead());
    }
    println!("spawn + run + drop {:.2} ns", t.elapsed().as_nanos() as f64 / 1e7);
    }
    for n in [10usize, 100, 1000, 10000] {
        let gs: Vec<_> = (0..n).map(|_| { let m = main.clone(); Greenlet::spawn_managed(None, move || loop { m.transfer() }).unwrap() }).collect();
        for g in &gs { g.transfer() }
        let rounds = 4_000_000 / n;
        let t = Instant::now();
        for _ in 0..rounds { for g in &gs { g.transfer() } }
        let e = t.elapsed();
        let t2 = Instant::now();
        for _ in 0..rounds { for i in 0..gs.len() { if let Some(g) = gs.get(i + 2) { g.0.prefetch(); } gs[i].transfer() } }
        println!("{n}: with prefetch {:.2} ns", t2.elapsed().as_nanos() as f64 / (rounds * n) as f64);
        println!("{n}: {:.2} ns", e.as_nanos() as f64 / (rounds * n) as f64);
    }
}
