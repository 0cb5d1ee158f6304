//! Answers that are none: forged, garbled, endless. Nothing but an answer from the server asked, to the question asked, is
//! believed, and nothing does harm.
mod nameserver;

use nameserver::{A, Asked, CNAME, Line, NameServer, Reply, TXT, name};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use twistlet::deferred::list;
use twistlet::testing::{Network, simulate_with};
use twistlet::transport::dns::{Client, Config, DnsError, Record, RecordType};
use twistlet::transport::{DatagramPort, DatagramProtocol};
use twistlet::{Address, Deferred, Failure, Reactor};

const TRUE: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
const FALSE: Ipv4Addr = Ipv4Addr::new(66, 66, 66, 66);
const SECOND: Duration = Duration::from_secs(1);

fn server_at() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 53))
}
fn config() -> Config {
    Config::new().server(server_at()).timeout(SECOND).attempts(1)
}

fn look_up(config: Config, script: impl FnMut(&Asked, Line) + 'static) -> (Result<Vec<Record>, Failure>, Duration) {
    let network = Network::new();
    let result = simulate_with(&network, |reactor, _| {
        NameServer::new(reactor, server_at(), script);
        Ok(Client::with_config(reactor, config).lookup("x.test", RecordType::A))
    });
    (result, network.elapsed())
}

fn truth(asked: &Asked) -> Reply {
    asked.reply().ip("x.test", TRUE)
}
fn lie(asked: &Asked) -> Reply {
    asked.reply().ip("x.test", FALSE)
}

/// Everything that may come from the right address and still is no answer.
fn forgeries(asked: &Asked) -> Vec<Vec<u8>> {
    let mut forged: Vec<Vec<u8>> = vec![
        lie(asked).id(asked.id.wrapping_add(1)).bytes(),
        lie(asked).id(asked.id ^ 0x8000).bytes(),
        lie(asked).about("y.test", A, 1).bytes(),
        lie(asked).about("x.test.evil", A, 1).bytes(),
        lie(asked).about("x.test", 28, 1).bytes(),
        lie(asked).about("x.test", A, 3).bytes(),
        lie(asked).about("", A, 1).bytes(),
        // A question, not an answer; another kind of message.
        lie(asked).without_flag(0x8000).bytes(),
        lie(asked).flag(0x2800).bytes(),
        vec![],
        vec![0; 11],
        asked.id.to_be_bytes().to_vec(),
        [&asked.id.to_be_bytes()[..], &[0x81, 0x80]].concat(),
        vec![0xff; 512],
    ];
    // No question, and two.
    for questions in [0, 2] {
        let mut reply = lie(asked);
        reply.questions = questions;
        if questions == 0 {
            reply.question.clear();
        } else {
            reply.question = [name("y.test"), vec![0, 1, 0, 1], reply.question].concat();
        }
        forged.push(reply.bytes());
    }
    // The question's name as a pointer to itself, to what follows, to nowhere.
    for pointer in [[0xc0, 12], [0xc0, 14], [0xff, 0xff]] {
        let mut reply = lie(asked);
        reply.question = [&pointer[..], &[0, 1, 0, 1]].concat();
        forged.push(reply.bytes());
    }
    forged
}

#[test]
fn forged_answers_from_the_servers_own_address_are_passed_over() {
    for n in 0..forgeries(&any_question()).len() {
        let (result, took) = look_up(config(), move |asked, line| {
            line.send(forgeries(asked)[n].clone());
            line.send(truth(asked));
        });
        let records = result.unwrap_or_else(|failure| panic!("forgery {n}: {failure}"));
        assert_eq!(records[0].data.ip(), Some(TRUE.into()), "forgery {n}");
        assert_eq!(took, Duration::ZERO);
        // Alone they are as good as silence, by TCP too.
        for stream in [false, true] {
            let (result, took) =
                look_up(config().tcp_only(stream), move |asked, line| line.send(forgeries(asked)[n].clone()));
            let failure = result.expect_err("nothing true was said");
            assert!(
                matches!(failure.check(), Some(DnsError::TimedOut { .. })),
                "forgery {n}, by TCP {stream}: {failure}"
            );
            assert_eq!(took, SECOND);
        }
    }
}
fn any_question() -> Asked {
    let question = [name("x.test"), vec![0, 1, 0, 1]].concat();
    let bytes = [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &question].concat();
    Asked::parse(&bytes, false, server_at())
}

/// Sends whatever it is told to.
struct Mute;
impl DatagramProtocol for Mute {
    fn datagram_received(&mut self, _: DatagramPort, _: &[u8], _: &Address) {}
}

#[test]
fn answers_from_anybody_but_the_server_are_not_heard() {
    // Where the system does the sorting out, and where it does not: real sockets, and simulated ones.
    fn attack(reactor: &Reactor, server: SocketAddr, strangers: [&str; 3]) -> Deferred<Vec<Record>> {
        let strangers = strangers.map(|at| reactor.listen_udp(at, Mute).expect("a port"));
        let at = NameServer::new(reactor, server, move |asked, line| {
            for stranger in strangers {
                stranger.write_to(lie(asked).bytes(), asked.from).expect("sent");
            }
            // After the lies have had their time.
            let (asked, reactor) = (asked.clone(), Reactor::current());
            reactor.call_later(Duration::from_millis(20), move || line.send(truth(&asked)));
        });
        Client::with_config(reactor, Config::new().server(at.at)).lookup("x.test", RecordType::A)
    }
    let simulated = simulate_with(&Network::new(), |reactor, _| {
        Ok(attack(reactor, server_at(), ["10.0.0.1:54", "10.0.0.2:53", "10.0.0.2:0"]))
    });
    assert_eq!(simulated.expect("the truth")[0].data.ip(), Some(TRUE.into()));
    let reactor = Reactor::new().expect("a reactor");
    let found = Rc::new(RefCell::new(None));
    let seen = found.clone();
    let server = SocketAddr::from(([127, 0, 0, 1], 0));
    let _ = attack(&reactor, server, ["127.0.0.1:0", "127.0.0.2:0", "0.0.0.0:0"]).add_both(move |outcome| {
        *seen.borrow_mut() = Some(outcome);
        reactor.stop()
    });
    reactor.run().expect("it runs");
    let records = found.take().expect("it ended").expect("the truth");
    assert_eq!(records[0].data.ip(), Some(TRUE.into()));
}

#[test]
fn who_does_not_see_the_question_guesses_in_vain() {
    // Many a number, to the port of the question, from the server's own address: but never the right one.
    let (result, took) = look_up(config(), |asked, line| {
        for id in (0..=u16::MAX).step_by(1100).filter(|id| *id != asked.id) {
            line.send(lie(asked).id(id));
        }
        line.send(truth(asked));
    });
    assert_eq!(result.expect("the truth")[0].data.ip(), Some(TRUE.into()));
    assert_eq!(took, Duration::ZERO);
    // Numbers and ports do not repeat, and follow no rule.
    let seen = Rc::new(RefCell::new(Vec::new()));
    let note = seen.clone();
    let _ = simulate_with(&Network::new(), |reactor, _| {
        NameServer::new(reactor, server_at(), move |asked, line| {
            note.borrow_mut().push((asked.id, asked.from.port()));
            line.send(asked.reply().code(3));
        });
        let client = Client::with_config(reactor, config());
        Ok(list((0..100).map(|n| client.lookup_a(&format!("x{n}.test")))))
    });
    let seen = seen.take();
    assert_eq!(seen.len(), 100);
    let distinct = |of: fn(&(u16, u16)) -> u16| {
        let all: std::collections::HashSet<u16> = seen.iter().map(of).collect();
        all.len()
    };
    assert!(distinct(|it| it.0) > 95 && distinct(|it| it.1) > 95, "{seen:?}");
    let steps: std::collections::HashSet<u16> = seen.windows(2).map(|two| two[1].1.wrapping_sub(two[0].1)).collect();
    assert!(steps.len() > 90, "ports that can be counted on: {seen:?}");
    assert!(seen.iter().any(|it| it.1 < 32768), "drawn from all there are: {seen:?}");
}

#[test]
fn records_about_others_are_not_believed() {
    let (result, _) = look_up(config(), |asked, line| {
        let reply = asked.reply().cname("x.test", "y.test").ip("z.test", FALSE).ip("y.test", TRUE).ip("test", FALSE);
        let reply = reply.record(1, "y.test", A, 60, &FALSE.octets()).record(2, "y.test", A, 60, &FALSE.octets());
        line.send(reply);
    });
    let records = result.expect("an answer");
    assert_eq!(records.iter().map(|record| record.data.ip()).collect::<Vec<_>>(), [Some(TRUE.into())]);
    // Nor remembered.
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let found = simulate_with(&Network::new(), |reactor, _| {
        NameServer::new(reactor, server_at(), move |asked, line| {
            counted.set(counted.get() + 1);
            let reply = asked.reply();
            line.send(match &*asked.name {
                "x.test" => {
                    reply.ip("x.test", TRUE).ip("bank.test", FALSE).record(2, "bank.test", A, 60, &FALSE.octets())
                }
                _ => reply.ip("bank.test", TRUE),
            });
        });
        let client = Client::with_config(reactor, config());
        Ok(client.lookup_a("x.test").add_callback(move |_| client.lookup_a("bank.test")))
    });
    assert_eq!(found.expect("it is there"), [TRUE]);
    assert_eq!(count.get(), 2);
}

/// The header and the question of a reply that claims so many answers, then `rest`.
fn crafted(asked: &Asked, answers: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = asked.reply().bytes();
    bytes[6..8].copy_from_slice(&answers.to_be_bytes());
    bytes.extend(rest);
    bytes
}

#[test]
fn malicious_messages_are_harmless() {
    let at = 12 + any_question().question.len();
    let pointer = |to: usize| [0xc0 | (to >> 8) as u8, to as u8];
    let record = |owner: &[u8], kind: u16, data: &[u8]| {
        [owner, &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 60], &(data.len() as u16).to_be_bytes(), data].concat()
    };
    let mut attacks: Vec<(u16, Vec<u8>)> = vec![
        // Names that point at themselves, forward, in a ring, past the end.
        (1, record(&pointer(at), A, &TRUE.octets())),
        (1, record(&pointer(at + 2), A, &TRUE.octets())),
        (2, [record(&pointer(at + 16), A, &TRUE.octets()), record(&pointer(at), A, &TRUE.octets())].concat()),
        (1, record(&pointer(0x3fff), A, &TRUE.octets())),
        (1, record(&[1, b'a', 0xc0, at as u8], A, &TRUE.octets())),
        (1, record(&pointer(12), CNAME, &pointer(at + 12))),
        // Reserved label kinds, labels past the end.
        (1, record(&[0x40, 0], A, &TRUE.octets())),
        (1, record(&[0x80, 0], A, &TRUE.octets())),
        (1, vec![63]),
        (1, vec![63; 30]),
        // Lengths that lie.
        (1, [&pointer(12)[..], &[0, 1, 0, 1, 0, 0, 0, 60, 0, 200, 1, 2, 3, 4]].concat()),
        (1, [&pointer(12)[..], &[0, 1, 0, 1, 0, 0, 0, 60, 0, 3, 1, 2, 3]].concat()),
        (1, [&pointer(12)[..], &[0, 1, 0, 1, 0, 0, 0, 60, 0, 0]].concat()),
        (1, record(&pointer(12), TXT, &[200, b'a'])),
        // More answers than there are.
        (65535, record(&pointer(12), A, &TRUE.octets())),
        (65535, vec![]),
        // An extension where none belongs, a signature where none was asked for.
        (1, record(&[0], 41, &[])),
        (1, record(&pointer(12), 250, &[0; 40])),
        (1, record(&pointer(12), 24, &[0; 40])),
        (1, record(&pointer(12), 47, &[0xff; 40])),
        (1, record(&pointer(12), 64, &[0, 1, 0, 0, 1, 0, 200])),
        (1, record(&pointer(12), 257, &[0, 255, b'x'])),
    ];
    // A long chain of pointers, each to the one before it, as far as they reach.
    let mut chain = record(&pointer(12), 10, &[pointer(12), pointer(at + 12)].concat());
    for n in 0..5000usize {
        chain.extend(pointer((at + 12 + 2 * n).min(0x3fff)));
    }
    attacks.push((2, chain));
    // Thousands of aliases, each of the next.
    let aliases: Vec<u8> = (0..2000)
        .flat_map(|n| record(&name(&format!("a{n}.test")), CNAME, &name(&format!("a{}.test", n + 1))))
        .collect();
    attacks.push((2001, [record(&pointer(12), CNAME, &name("a0.test")), aliases].concat()));
    for (n, (answers, rest)) in attacks.into_iter().enumerate() {
        for stream in [false, true] {
            let rest = rest.clone();
            let (result, took) = look_up(config().tcp_only(stream), move |asked, line| {
                line.send(crafted(asked, answers, &rest));
            });
            let failure = match result {
                Ok(records) => panic!("attack {n} gave {records:?}"),
                Err(failure) => failure,
            };
            assert!(failure.is::<DnsError>(), "attack {n}: {failure:?}");
            assert!(took <= SECOND, "attack {n}");
        }
    }
}

#[test]
fn a_server_that_sends_without_end_is_not_listened_to_for_longer() {
    // One message after the other by TCP, none of them the answer; and one that never comes to its end.
    for endless in [false, true] {
        let (result, took) = look_up(config().tcp_only(true), move |asked, line| {
            let wrong = lie(asked).id(!asked.id).bytes();
            let wire = line.wire();
            fn babble(wire: twistlet::TransportRef, message: Rc<[u8]>) {
                if wire.is_connected() {
                    wire.write(&message);
                    wire.call_later(Duration::from_millis(1), move || babble(wire, message));
                }
            }
            let message =
                if endless { vec![0xff; 100] } else { [&(wrong.len() as u16).to_be_bytes()[..], &wrong].concat() };
            babble(wire, message.into());
        });
        let failure = result.expect_err("no answer");
        match failure.check() {
            Some(DnsError::TimedOut { .. }) if endless => assert!(took < 4 * SECOND, "{took:?}"),
            Some(DnsError::ServerFailed { code: None, .. }) if !endless => assert!(took < SECOND / 2, "{took:?}"),
            _ => panic!("{failure}"),
        }
    }
}

#[test]
fn a_flood_of_wrong_answers_is_fled_from() {
    // Who guesses is left behind on another port, with another number, and does not hear of it: the server is asked by TCP.
    let streams = Rc::new(Cell::new(0));
    let count = streams.clone();
    let (result, took) = look_up(config(), move |asked, line| {
        if asked.stream {
            count.set(count.get() + 1);
            line.send(truth(asked));
        } else {
            for guess in 1..=u16::MAX {
                line.send(lie(asked).id(asked.id.wrapping_add(guess)));
            }
        }
    });
    assert_eq!(result.expect("the truth")[0].data.ip(), Some(TRUE.into()));
    assert_eq!((streams.get(), took), (1, Duration::ZERO));
    // A server that lies there as well makes way for the next one.
    let (result, took) = look_up(config().server(([10, 0, 0, 9], 53).into()), |asked, line| {
        for guess in 1..=200 {
            line.send(lie(asked).id(asked.id.wrapping_add(guess)));
        }
    });
    assert!(result.is_err());
    assert!(took <= SECOND, "{took:?}");
}

fn split_at(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let ends = cuts.iter().copied().chain([bytes.len()]);
    let mut start = 0;
    ends.map(|end| bytes[std::mem::replace(&mut start, end)..end].to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    // Any split of the input into chunks gives the same result.
    #[test]
    fn an_answer_by_tcp_may_come_in_any_pieces(cuts in prop::collection::vec(any::<usize>(), 0..12), before in 0usize..3) {
        let (result, took) = look_up(config().tcp_only(true), move |asked, line| {
            let mut bytes = Vec::new();
            for message in std::iter::repeat_n(lie(asked).id(!asked.id), before).chain([truth(asked)]) {
                let message = message.bytes();
                bytes.extend((message.len() as u16).to_be_bytes());
                bytes.extend(message);
            }
            let wire = line.wire();
            for (n, piece) in split_at(&bytes, &cuts).into_iter().enumerate() {
                wire.call_later(Duration::from_millis(n as u64), move || wire.write(&piece));
            }
        });
        prop_assert_eq!(result.expect("an answer")[0].data.ip(), Some(TRUE.into()));
        prop_assert!(took < SECOND);
    }

    // Random bytes never do more than fail, and never keep the truth from being heard.
    #[test]
    fn any_bytes_may_come(noise in prop::collection::vec(any::<u8>(), 0..600), stream: bool) {
        let sent = noise.clone();
        let (result, took) = look_up(config().tcp_only(stream), move |_, line| line.send(sent.clone()));
        prop_assert!(result.is_err() && took <= SECOND);
        let (result, _) = look_up(config().tcp_only(stream), move |asked, line| {
            line.send(noise.clone());
            line.send(truth(asked));
        });
        prop_assert_eq!(result.expect("the truth")[0].data.ip(), Some(TRUE.into()));
    }

    // Random bytes behind a header and a question that are right, or with bits turned over in a whole answer.
    #[test]
    fn any_bytes_may_follow_the_question(
        noise in prop::collection::vec(any::<u8>(), 0..300),
        answers: u16,
        flips in prop::collection::vec((any::<usize>(), 0u8..8), 0..6),
        stream: bool,
    ) {
        let (result, took) = look_up(config().tcp_only(stream), move |asked, line| {
            line.send(crafted(asked, answers, &noise));
            let mut answer = truth(asked).cname("y.test", "x.test").soa("test", 60).bytes();
            for (at, bit) in &flips {
                let at = at % answer.len();
                answer[at] ^= 1 << bit;
            }
            line.send(answer);
        });
        prop_assert!(took <= 2 * SECOND);
        if let Ok(records) = result {
            prop_assert!(!records.is_empty());
        }
    }

    // Names as text and back.
    #[test]
    fn a_name_that_was_read_can_be_asked_for(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 1..5)) {
        let mut wire: Vec<u8> = labels.iter().flat_map(|label| [&[label.len() as u8][..], label].concat()).collect();
        wire.push(0);
        let asked_for = Rc::new(RefCell::new(Vec::new()));
        let seen = asked_for.clone();
        let target = wire.clone();
        let result = simulate_with(&Network::new(), |reactor, _| {
            NameServer::new(reactor, server_at(), move |asked, line| {
                if asked.name == "x.test" {
                    line.send(asked.reply().record(0, "x.test", CNAME, 60, &target));
                } else {
                    *seen.borrow_mut() = asked.question.clone();
                    line.send(asked.reply().code(3));
                }
            });
            let client = Client::with_config(reactor, config());
            Ok(client.lookup_cname("x.test").add_callback(move |names| {
                client.lookup_a(&names[0]).add_both(|_| ())
            }))
        });
        prop_assert!(result.is_ok());
        prop_assert_eq!(&asked_for.borrow()[..wire.len()], &wire[..]);
    }
}
