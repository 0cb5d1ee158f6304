//! Policies around TLS and within it, under start_tls, and with descriptors that pass.
use super::certs;
use super::rig::{Log, Probe, Slot, run, serve};
use std::io::Read;
use std::rc::Rc;
use std::time::Duration;
use twistlet::protocols::FileSender;
use twistlet::protocols::policies::{
    LimitConnectionsByPeer, LimitTotalConnections, ThrottlingFactory, TimeoutFactory, TrafficLoggingFactory,
};
use twistlet::transport::tls::wrap_factory;
use twistlet::{Factory, Reactor, TransportRef};

/// One of each, around `inner`.
fn all(inner: Box<dyn Factory>) -> Box<dyn Factory> {
    let inner = LimitTotalConnections::new(9, LimitConnectionsByPeer::new(TimeoutFactory::half_an_hour(inner)));
    Box::new(TrafficLoggingFactory::new(std::io::sink(), ThrottlingFactory::new(inner).read_limit(1 << 40)))
}

type Wrap = fn(Box<dyn Factory>) -> Box<dyn Factory>;

#[test]
fn files_and_half_closes_go_through_tls_between_policies() {
    let kinds: [Wrap; 2] = [
        |inner| all(Box::new(wrap_factory(certs::server(), inner))),
        |inner| Box::new(wrap_factory(certs::server(), all(inner))),
    ];
    for wrap in kinds {
        let got = Slot::<usize>::default();
        let total = Rc::new(std::cell::Cell::new(0usize));
        run(|reactor: Reactor| {
            let made = || {
                Probe::new().on_data(|t, data| {
                    assert_eq!(data, b"file");
                    let sent = FileSender::reading(std::io::repeat(b'x').take(2_000_000)).send(t);
                    drop(sent.add_callback(move |_| t.lose_connection()));
                })
            };
            let to = serve(reactor, wrap(Box::new(made)));
            let (count, told) = (total.clone(), got.clone());
            let client = move || {
                let (count, all, told) = (count.clone(), count.clone(), told.clone());
                Probe::new()
                    .on_made(|t| t.write("file"))
                    .on_data(move |_, data| count.set(count.get() + data.len()))
                    .on_lost(move |_, _| {
                        told.set(all.get());
                        let _ = reactor.stop();
                    })
            };
            reactor.connect_tls(to, certs::client().named("localhost"), client);
        });
        assert_eq!(got.get(), 2_000_000);
    }
}

#[test]
fn tls_starts_on_a_live_connection_under_policies() {
    let log = Log::default();
    run(|reactor: Reactor| {
        let said = log.clone();
        let made = move || {
            let said = said.clone();
            Probe::new().on_data(move |t: TransportRef, data| {
                said.add(format_args!("{} {}", String::from_utf8_lossy(data), t.is_secure()));
                if data == b"STARTTLS" {
                    t.write("go");
                    t.start_tls(certs::server());
                } else {
                    t.write(data);
                }
            })
        };
        let to = serve(reactor, all(Box::new(made)));
        let said = log.clone();
        let client = move || {
            let (said, ended) = (said.clone(), said.clone());
            Probe::new()
                .on_made(|t| t.write("STARTTLS"))
                .on_data(move |t: TransportRef, data| {
                    said.add(format_args!("got {} {}", String::from_utf8_lossy(data), t.is_secure()));
                    if data == b"go" {
                        t.start_tls(certs::client().named("localhost"));
                        t.write("secret");
                    } else {
                        t.lose_connection();
                    }
                })
                .on_lost(move |_, reason| {
                    ended.add(format_args!("{reason:?}"));
                    reactor.call_later(Duration::from_millis(5), move || reactor.stop());
                })
        };
        reactor.connect_tcp(to, TimeoutFactory::half_an_hour(client));
    });
    assert_eq!(log.all(), ["STARTTLS false", "got go false", "secret true", "got secret true", "Done"]);
}

#[test]
fn descriptors_pass_through_policies_both_ways() {
    use std::os::fd::OwnedFd;
    use twistlet::Protocol;
    struct Passes(Log);
    impl Protocol for Passes {
        fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
        fn file_descriptor_received(&mut self, transport: TransportRef, descriptor: OwnedFd) {
            let mut text = String::new();
            std::fs::File::from(descriptor).read_to_string(&mut text).expect("readable");
            self.0.add(text);
            transport.lose_connection();
        }
    }
    let path = std::env::temp_dir().join(format!("twistlet-policies-{}.socket", std::process::id()));
    let log = Log::default();
    run(|reactor: Reactor| {
        let said = log.clone();
        reactor.listen_unix(&*path, all(Box::new(move || Passes(said.clone())))).expect("a free path");
        let client = move || {
            Probe::new()
                .on_made(|t: TransportRef| {
                    let (reader, mut writer) = std::io::pipe().expect("a pipe");
                    std::io::Write::write_all(&mut writer, b"by descriptor").expect("room");
                    t.send_file_descriptor(reader).expect("a UNIX socket");
                    t.write("x");
                })
                .on_lost(move |_, _| {
                    let _ = reactor.stop();
                })
        };
        reactor.connect_unix(&*path, TimeoutFactory::half_an_hour(client));
    });
    assert_eq!(log.all(), ["by descriptor"]);
}
