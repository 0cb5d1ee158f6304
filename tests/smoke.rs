use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::green::*;
use twistlet::{Deferred, Protocol, Reactor, TransportRef};

#[test]
fn implicit() {
    let six = spawn(|| Ok(2 * 3));
    assert_eq!(six.wait().unwrap(), 6);
    let t = Instant::now();
    sleep(Duration::from_millis(20));
    assert!(t.elapsed() >= Duration::from_millis(20));
    assert!(with_timeout(Duration::from_millis(5), || sleep(Duration::from_secs(60))).is_err());
    let (p, d) = Deferred::new();
    let h = spawn(move || block_on(d));
    yield_now();
    p.callback(5);
    assert_eq!(h.wait().unwrap(), 5);
    let k = spawn(|| sleep(Duration::from_secs(60)));
    yield_now();
    k.kill();
    println!("{:?}", k.wait());
    let k = spawn(|| sleep(Duration::from_secs(60)));
    k.kill();
    println!("{:?}", k.wait());
    let (p, d) = Deferred::<u32>::new();
    println!("{:?}", block_on(d));
    drop(p);
    Reactor::current().close();
}
struct Echo;
impl Protocol for Echo {
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        transport.write(data);
    }
}
struct Client(Rc<Cell<usize>>);
impl Protocol for Client {
    fn connection_made(&mut self, transport: TransportRef) {
        transport.write("hello");
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.0.set(self.0.get() + data.len());
        if self.0.get() < 500000 {
            transport.write(data);
            transport.write(data);
        } else {
            transport.lose_connection();
        }
    }
    fn connection_lost(&mut self, _t: TransportRef, reason: &twistlet::ConnectionClosed) {
        println!("{reason:?}");
        let _ = Reactor::current().stop();
    }
}
#[test]
fn echo() {
    let reactor = Reactor::new().unwrap();
    let port = reactor.listen_tcp("127.0.0.1:0", || Echo).unwrap();
    println!("{}", port.address());
    let n = Rc::new(Cell::new(0));
    let m = n.clone();
    reactor.connect_tcp(port.address().socket().unwrap(), move || Client(m.clone()));
    reactor.call_later(Duration::from_secs(3), || panic!("late"));
    reactor.run().unwrap();
    assert!(n.get() >= 500000);
}
