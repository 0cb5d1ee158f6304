//! The scenarios about bytes on their way: order, pauses, producers, flushing.
use super::Scenario;
use super::StreamRule::{Bytes, Close, Flush, Names, OneProducer, Pause, PullProducer, PushProducer, Switch};
use super::probe::{At, Court, Pair, Seen};
use crate::transport::{Producer, Protocol, TransportRef};
use bytes::Bytes as Buffer;
use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::rc::Rc;

pub(super) const SCENARIOS: &[Scenario] = &[
    (Bytes, "pieces of every size", pieces_of_every_size),
    (Pause, "paused within a callback", paused_within_a_callback),
    (Pause, "paused from the start", paused_from_the_start),
    (PushProducer, "paused and resumed", paused_and_resumed),
    (PullProducer, "asked until it ends", asked_until_it_ends),
    (OneProducer, "a second one", a_second_one),
    (OneProducer, "stopped at the end", stopped_at_the_end),
    (Close, "a producer holds it back", a_producer_holds_it_back),
    (Flush, "flushed or not", flushed_or_not),
    (Switch, "another takes over", another_takes_over),
    (Names, "the same until the end", the_same_until_the_end),
];

/// Bytes that tell where they belong.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

/// Writes `data` in pieces of many sizes, by every way of writing.
fn write_in_pieces(end: &Seen, data: &[u8]) {
    let sizes = [1, 2, 0, 7, 1500, 1, 4096, 65_536, 3, 65_537, 100_000];
    let mut rest = data;
    for (number, size) in sizes.into_iter().cycle().enumerate() {
        let (piece, left) = rest.split_at(size.min(rest.len()));
        end.call(|wire| match number % 4 {
            0 => wire.write(piece),
            1 => wire.write_bytes(Buffer::copy_from_slice(piece)),
            2 => {
                let (one, two) = piece.split_at(piece.len() / 2);
                wire.write_vectored(&[IoSlice::new(one), IoSlice::new(&[]), IoSlice::new(two)]);
            }
            _ => wire.write(piece),
        });
        rest = left;
        if rest.is_empty() {
            break;
        }
    }
}

fn pieces_of_every_size(pair: &mut Pair<'_>) {
    let (out, back) = (pattern(500_000), pattern(333_333));
    let sent = out.clone();
    pair.near.on(At::Made, move |end, _| write_in_pieces(end, &sent));
    let answer = RefCell::new(Some(back.clone()));
    pair.far.on(At::Data, move |end, _| {
        if let Some(answer) = answer.take() {
            write_in_pieces(end, &answer);
        }
    });
    if pair.connect() {
        let (near, far) = (Rc::clone(&pair.near), Rc::clone(&pair.far));
        pair.arrives(Bytes, &far, &out);
        pair.arrives(Bytes, &near, &back);
    }
}

fn paused_within_a_callback(pair: &mut Pair<'_>) {
    let sent = pattern(400_000);
    let paused = Cell::new(false);
    pair.far.on(At::Data, move |end, _| {
        if !paused.replace(true) {
            end.pause();
        }
    });
    if !pair.connect() {
        return;
    }
    let (near, far) = (Rc::clone(&pair.near), Rc::clone(&pair.far));
    // More comes at once where the wire can, and more comes later.
    let (first, rest) = sent.split_at(150_000);
    write_in_pieces(&near, first);
    let there = Rc::clone(&far);
    pair.until(Pause, "the first data came", move || there.received() > 0);
    write_in_pieces(&near, rest);
    pair.settle();
    if !far.call(TransportRef::is_paused) {
        far.complain(Pause, "is_paused() is false though it was paused last");
    }
    // The other direction is not concerned.
    far.write(b"meanwhile");
    pair.arrives(Pause, &near, b"meanwhile");
    far.resume();
    far.resume();
    pair.arrives(Pause, &far, &sent);
}

fn paused_from_the_start(pair: &mut Pair<'_>) {
    pair.far.on(At::Made, |end, _| end.pause());
    pair.near.on(At::Made, |end, _| end.write(b"early"));
    if pair.connect() {
        pair.settle();
        let far = Rc::clone(&pair.far);
        far.resume();
        pair.arrives(Pause, &far, b"early");
    }
}

/// A push producer that writes pieces while it may, a few in each of its turns.
struct Pusher {
    end: Rc<Seen>,
    court: Rc<Court>,
    going: Cell<bool>,
    gone: Cell<bool>,
    pauses: Cell<usize>,
    stops: Cell<usize>,
}
impl Pusher {
    fn register(end: &Rc<Seen>) -> Rc<Pusher> {
        let pusher = Rc::new(Pusher {
            end: Rc::clone(end),
            court: Rc::clone(&end.court),
            going: Cell::new(true),
            gone: Cell::new(false),
            pauses: Cell::new(0),
            stops: Cell::new(0),
        });
        end.call(|wire| wire.register_producer(Handle(Rc::clone(&pusher))));
        pusher
    }
    fn unregister(&self) {
        self.gone.set(true);
        self.end.call(TransportRef::unregister_producer);
    }
    fn told(&self, going: bool) {
        self.court.enter("a producer");
        if self.gone.get() {
            self.end.complain(PushProducer, "a producer was called after it had been unregistered or stopped");
        } else if self.going.replace(going) == going {
            self.end.complain(PushProducer, "a producer was paused while paused, or resumed while going");
        }
    }
}
struct Handle(Rc<Pusher>);
impl Producer for Handle {
    fn pause_producing(&mut self) {
        self.0.pauses.set(self.0.pauses.get() + 1);
        self.0.told(false);
    }
    fn resume_producing(&mut self) {
        self.0.told(true);
    }
    fn stop_producing(&mut self) {
        self.0.court.enter("a producer");
        self.0.stops.set(self.0.stops.get() + 1);
    }
}

fn paused_and_resumed(pair: &mut Pair<'_>) {
    const PIECE: usize = 16 * 1024;
    const MOST: usize = 1024;
    pair.far.on(At::Made, |end, _| end.pause());
    if !pair.connect() {
        return;
    }
    let (near, far) = (Rc::clone(&pair.near), Rc::clone(&pair.far));
    let piece = pattern(PIECE);
    let pusher = Pusher::register(&near);
    let mut pieces = 0;
    while pusher.going.get() && pieces < MOST {
        for _ in 0..8 {
            near.write(&piece);
            pieces += 1;
        }
        pair.settle();
    }
    if pusher.going.get() {
        near.complain(PushProducer, "16 MiB were written though nobody read, and the producer was not paused");
    }
    far.resume();
    let waits = Rc::clone(&pusher);
    if pair.until(PushProducer, "the producer was resumed, all having left", move || waits.going.get()) {
        near.write(&piece);
        pieces += 1;
    }
    pusher.unregister();
    for _ in 0..16 {
        near.write(&piece);
        pieces += 1;
    }
    pair.arrives(PushProducer, &far, &piece.repeat(pieces));
    near.call(|wire| wire.unregister_producer());
}

fn asked_until_it_ends(pair: &mut Pair<'_>) {
    struct Ten {
        left: u8,
        end: Rc<Seen>,
        asked: Rc<Cell<u8>>,
    }
    impl crate::transport::PullProducer for Ten {
        fn produce(&mut self, consumer: TransportRef) -> bool {
            self.end.court.enter("a producer");
            if self.left == 0 {
                self.end.complain(PullProducer, "it was asked again after it had said that there is no more");
                return false;
            }
            if consumer.unsent() > 0 {
                self.end.complain(PullProducer, "it was asked before all of the last had left");
            }
            self.asked.set(self.asked.get() + 1);
            self.left -= 1;
            self.end.write(&[b'0' + self.left; 5000]);
            self.left > 0
        }
    }
    if !pair.connect() {
        return;
    }
    let (near, far, asked) = (Rc::clone(&pair.near), Rc::clone(&pair.far), Rc::new(Cell::new(0)));
    let ten = Ten { left: 10, end: Rc::clone(&near), asked: Rc::clone(&asked) };
    near.call(|wire| wire.register_pull_producer(ten));
    let expected: Vec<u8> = (0..10_u8).rev().flat_map(|n| [b'0' + n; 5000]).collect();
    pair.arrives(PullProducer, &far, &expected);
    pair.settle();
    if asked.get() != 10 {
        near.complain(PullProducer, format_args!("it was asked {} times for ten pieces", asked.get()));
    }
    // The place is free again.
    Pusher::register(&near).unregister();
}

fn a_second_one(pair: &mut Pair<'_>) {
    if !pair.connect() {
        return;
    }
    let near = Rc::clone(&pair.near);
    let first = Pusher::register(&near);
    let again = Rc::clone(&near);
    if crate::failure::catch(move || Pusher::register(&again)).is_ok() {
        near.complain(OneProducer, "a second producer was taken");
    }
    first.unregister();
    Pusher::register(&near).unregister();
}

fn stopped_at_the_end(pair: &mut Pair<'_>) {
    // Where an abort is no more than an end to the peer, its producer would hold the close back.
    pair.near.on(At::ReadLost, |end, _| end.abort());
    if !pair.connect() {
        return;
    }
    let (near, far) = (Rc::clone(&pair.near), Rc::clone(&pair.far));
    let pushers = [Pusher::register(&near), Pusher::register(&far)];
    far.abort();
    if !pair.both_lost() {
        return;
    }
    pair.settle();
    for (end, pusher) in [near, far].iter().zip(pushers) {
        if pusher.stops.get() != 1 {
            end.complain(
                OneProducer,
                format_args!("its producer was told stop_producing {} times", pusher.stops.get()),
            );
        }
        // One that comes too late is told so.
        let late = Pusher::register(end);
        pair.settle();
        if late.stops.get() > 1 {
            end.complain(OneProducer, "a producer registered after the end was told stop_producing twice");
        }
    }
}

fn a_producer_holds_it_back(pair: &mut Pair<'_>) {
    if !pair.connect() {
        return;
    }
    let (near, far) = (Rc::clone(&pair.near), Rc::clone(&pair.far));
    let pusher = Pusher::register(&near);
    near.write(b"one");
    near.lose();
    pair.settle();
    if near.is_lost() || far.is_lost() {
        near.complain(Close, "the connection was closed before its producer was done");
    }
    near.write(b"two");
    pusher.unregister();
    pair.arrives(Close, &far, b"onetwo");
    pair.both_lost();
    if pusher.stops.get() > 0 {
        near.complain(Close, "a producer that had unregistered was told stop_producing");
    }
}

fn flushed_or_not(pair: &mut Pair<'_>) {
    if !pair.connect() {
        return;
    }
    let (near, far) = (Rc::clone(&pair.near), Rc::clone(&pair.far));
    let nothing = near.call(TransportRef::when_flushed);
    if !matches!(pair.fired(Flush, "when_flushed had fired with nothing to flush", nothing), Some(Ok(())) | None) {
        near.complain(Flush, "when_flushed failed with nothing to flush");
    }
    let sent = pattern(300_000);
    near.write(&sent);
    let flushed = near.call(TransportRef::when_flushed);
    if let Some(Err(failure)) = pair.fired(Flush, "when_flushed had fired", flushed) {
        near.complain(Flush, format_args!("when_flushed failed on a connection that is there: {failure}"));
    }
    if near.call(TransportRef::unsent) > 0 {
        near.complain(Flush, "when_flushed fired while there was unsent output");
    }
    pair.arrives(Flush, &far, &sent);
    far.pause();
    near.write(&vec![0; 8_000_000]);
    let never = near.call(TransportRef::when_flushed);
    pair.settle();
    if near.call(TransportRef::unsent) > 0 {
        near.abort();
        if matches!(pair.fired(Flush, "when_flushed had failed at the end", never), Some(Ok(()))) {
            near.complain(Flush, "when_flushed fired though the connection ended before the output had left");
        }
    }
}

fn another_takes_over(pair: &mut Pair<'_>) {
    /// Gathers, and tells the end that had the wire before.
    struct Second(Rc<RefCell<Vec<u8>>>, Rc<Cell<bool>>);
    impl Protocol for Second {
        fn connection_made(&mut self, _: TransportRef) {
            self.1.set(true);
        }
        fn data_received(&mut self, _: TransportRef, data: &[u8]) {
            self.0.borrow_mut().extend_from_slice(data);
        }
    }
    let (data, made) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(false)));
    let second = RefCell::new(Some(Second(Rc::clone(&data), Rc::clone(&made))));
    pair.far.on(At::Data, move |end, _| match second.take() {
        Some(second) => {
            end.handed_over.set(true);
            end.call(|wire| wire.switch_protocol(second, b"unread "));
        }
        None => end.complain(Switch, "the old protocol got data after it had handed over"),
    });
    if !pair.connect() {
        return;
    }
    let near = Rc::clone(&pair.near);
    near.write(b"first ");
    let told = Rc::clone(&made);
    pair.until(Switch, "the second protocol was told connection_made", move || told.get());
    near.write(b"second");
    let there = Rc::clone(&data);
    pair.until(Switch, "the rest had arrived", move || there.borrow().len() >= 13);
    if *data.borrow() != b"unread second" {
        near.complain(Switch, format_args!("the second protocol got {:?}", data.borrow().escape_ascii().to_string()));
    }
    near.lose();
    let gone = Rc::clone(&near);
    pair.until(Switch, "the connection had ended", move || gone.is_lost());
}

fn the_same_until_the_end(pair: &mut Pair<'_>) {
    let ends = [Rc::clone(&pair.near), Rc::clone(&pair.far)];
    for end in &ends {
        let names = Rc::new(RefCell::new(None));
        let first = Rc::clone(&names);
        end.on(At::Made, move |end, wire| {
            if !end.call(TransportRef::is_connected) {
                end.complain(Names, "is_connected() is false in connection_made");
            }
            *first.borrow_mut() = Some((wire.peer(), wire.host()));
        });
        end.on(At::Lost, move |end, wire| {
            if names.borrow().as_ref() != Some(&(wire.peer(), wire.host())) {
                end.complain(Names, "peer() or host() do not answer in connection_lost as in connection_made");
            }
        });
    }
    if !pair.connect() {
        return;
    }
    ends[0].lose();
    if !pair.both_lost() {
        return;
    }
    for end in &ends {
        let gone = end.call(|wire| {
            wire.write(b"into the void");
            wire.lose_connection();
            wire.lose_write_connection();
            wire.abort_connection();
            wire.pause_producing();
            wire.resume_producing();
            wire.unregister_producer();
            wire.peer() == crate::address::Address::Gone && !wire.is_connected() && wire.is_disconnecting()
        });
        if !gone {
            end.complain(Names, "after connection_lost its name still means something");
        }
    }
}
