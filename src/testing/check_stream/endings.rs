//! The scenarios about ends: closing, half and whole, aborting, failing, panicking, and all of it at once.
use super::Scenario;
use super::StreamRule::{Abort, Close, Failed, HalfClose, NoDataAfterClose, OneEnd};
use super::flow::pattern;
use super::probe::{At, Pair, Seen};
use crate::error::ConnectionClosed;
use crate::failure::Failure;
use crate::transport::TransportRef;
use std::rc::Rc;

pub(super) const SCENARIOS: &[Scenario] = &[
    (Close, "what was written arrives first", what_was_written_arrives_first),
    (NoDataAfterClose, "no data for who has closed", no_data_for_who_has_closed),
    (Close, "closed within connection made", closed_within_connection_made),
    (HalfClose, "one direction after the other", one_direction_after_the_other),
    (HalfClose, "closed by default at the peers end", closed_by_default_at_the_peers_end),
    (Abort, "aborted", aborted),
    (Failed, "failed by its protocol", failed_by_its_protocol),
    (Failed, "a protocol that panics", a_protocol_that_panics),
    (OneEnd, "closed by everybody and again", closed_by_everybody_and_again),
    (OneEnd, "closed within connection lost", closed_within_connection_lost),
];

fn reason(end: &Seen) -> Option<ConnectionClosed> {
    end.reason.borrow().clone()
}
fn ended_with(end: &Seen, right: impl FnOnce(&ConnectionClosed) -> bool) -> bool {
    end.reason.borrow().as_ref().is_none_or(right)
}
fn ended_cleanly(end: &Seen, rule: super::StreamRule) {
    if !ended_with(end, ConnectionClosed::is_clean) {
        end.complain(rule, format_args!("after a clean close its reason is {:?}", reason(end)));
    }
}

fn what_was_written_arrives_first(pair: &mut Pair<'_>) {
    if !pair.connect() {
        return;
    }
    let (near, far) = (Rc::clone(&pair.near), Rc::clone(&pair.far));
    let mut sent = pattern(700_000);
    near.write(&sent);
    near.lose();
    // Accepted until it is closed.
    near.write(b"the last words");
    sent.extend_from_slice(b"the last words");
    pair.arrives(Close, &far, &sent);
    pair.both_lost();
    ended_cleanly(&near, Close);
    ended_cleanly(&far, Close);
    if far.received() != sent.len() {
        far.complain(Close, "more came after the end than was sent");
    }
}

fn no_data_for_who_has_closed(pair: &mut Pair<'_>) {
    // Closes at the first data, while more is on its way: what comes after would be complained of.
    pair.near.on(At::Data, |end, _| end.lose());
    pair.far.on(At::Made, |end, _| {
        for _ in 0..50 {
            end.write(&pattern(10_000));
        }
    });
    if pair.connect() {
        pair.both_lost();
        ended_cleanly(&Rc::clone(&pair.near), Close);
    }
}

fn closed_within_connection_made(pair: &mut Pair<'_>) {
    pair.near.on(At::Made, |end, _| {
        end.write(b"hello and goodbye");
        end.lose();
    });
    if pair.connect() {
        let (near, far) = (Rc::clone(&pair.near), Rc::clone(&pair.far));
        pair.arrives(Close, &far, b"hello and goodbye");
        pair.both_lost();
        ended_cleanly(&near, Close);
        ended_cleanly(&far, Close);
    }
}

fn one_direction_after_the_other(pair: &mut Pair<'_>) {
    pair.near.stays.set(true);
    pair.far.stays.set(true);
    if !pair.connect() {
        return;
    }
    let (near, far) = (Rc::clone(&pair.near), Rc::clone(&pair.far));
    let (out, back) = (pattern(200_000), pattern(150_000));
    near.write(&out);
    near.call(TransportRef::lose_write_connection);
    let told = Rc::clone(&far);
    pair.until(HalfClose, "the peer was told of the end of one direction", move || told.count(At::ReadLost) > 0);
    // All of it before the end: the probe sees to what comes after.
    pair.arrives(HalfClose, &far, &out);
    let told = Rc::clone(&near);
    pair.until(HalfClose, "write_connection_lost had come", move || told.count(At::WriteLost) > 0);
    if near.is_lost() || far.is_lost() {
        near.complain(HalfClose, "closing one direction ended the connection");
        return;
    }
    near.write(b"ignored");
    far.write(&back);
    pair.arrives(HalfClose, &near, &back);
    far.call(TransportRef::lose_write_connection);
    let told = Rc::clone(&near);
    pair.until(HalfClose, "the end of the other direction was told", move || told.count(At::ReadLost) > 0);
    near.lose();
    far.lose();
    pair.both_lost();
    ended_cleanly(&near, HalfClose);
    ended_cleanly(&far, HalfClose);
    if far.received() != out.len() {
        far.complain(HalfClose, "what was written after the write side was closed arrived");
    }
}

fn closed_by_default_at_the_peers_end(pair: &mut Pair<'_>) {
    pair.far.on(At::ReadLost, |end, _| end.write(b"the answer"));
    if pair.connect() {
        let (near, far) = (Rc::clone(&pair.near), Rc::clone(&pair.far));
        near.write(b"the question");
        near.call(TransportRef::lose_write_connection);
        pair.arrives(HalfClose, &far, b"the question");
        pair.arrives(HalfClose, &near, b"the answer");
        pair.both_lost();
        ended_cleanly(&near, HalfClose);
        ended_cleanly(&far, HalfClose);
    }
}

fn aborted(pair: &mut Pair<'_>) {
    pair.near.on(At::Data, |end, _| {
        end.abort();
        end.abort();
    });
    if !pair.connect() {
        return;
    }
    let (near, far) = (Rc::clone(&pair.near), Rc::clone(&pair.far));
    near.write(b"what was written before may be lost");
    far.write(&pattern(100_000));
    pair.both_lost();
    if !ended_with(&near, |reason| matches!(reason, ConnectionClosed::Aborted)) {
        near.complain(Abort, format_args!("its reason is {:?}", reason(&near)));
    }
}

fn failed_by_its_protocol(pair: &mut Pair<'_>) {
    #[derive(Debug)]
    struct Mine;
    impl std::fmt::Display for Mine {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an error of the protocol's")
        }
    }
    impl std::error::Error for Mine {}
    pair.near.on(At::Data, |end, _| {
        end.write(b"an explanation");
        end.closes();
        end.call(|wire| wire.fail_connection(Mine));
    });
    if !pair.connect() {
        return;
    }
    let (near, far) = (Rc::clone(&pair.near), Rc::clone(&pair.far));
    far.write(b"nonsense");
    pair.arrives(Failed, &far, b"an explanation");
    pair.both_lost();
    if !ended_with(&near, |reason| matches!(reason, ConnectionClosed::Failed(failure) if failure.is::<Mine>())) {
        near.complain(Failed, format_args!("fail_connection gave the reason {:?}", reason(&near)));
    }
}

fn a_protocol_that_panics(pair: &mut Pair<'_>) {
    pair.near.on(At::Data, |end, _| {
        end.closes();
        // Past the panic hook: nobody is to read of it.
        std::panic::resume_unwind(Box::new("a panic of the protocol's"));
    });
    if !pair.connect() {
        return;
    }
    let (near, far) = (Rc::clone(&pair.near), Rc::clone(&pair.far));
    far.write(b"the last straw");
    pair.both_lost();
    if !ended_with(&near, |reason| matches!(reason, ConnectionClosed::Failed(failure) if failure.is_panic())) {
        near.complain(Failed, format_args!("a panic gave the reason {:?}", reason(&near)));
    }
}

fn closed_by_everybody_and_again(pair: &mut Pair<'_>) {
    pair.near.on(At::Data, |end, _| {
        end.lose();
        end.lose();
        end.call(TransportRef::lose_write_connection);
    });
    pair.far.on(At::Data, |end, _| end.lose());
    if !pair.connect() {
        return;
    }
    let (near, far) = (Rc::clone(&pair.near), Rc::clone(&pair.far));
    near.write(b"bye");
    far.write(b"bye");
    pair.both_lost();
    near.call(TransportRef::abort_connection);
    pair.settle();
    for end in [&near, &far] {
        if end.count(At::Lost) != 1 {
            end.complain(OneEnd, format_args!("connection_lost came {} times", end.count(At::Lost)));
        }
    }
}

fn closed_within_connection_lost(pair: &mut Pair<'_>) {
    for end in [&pair.near, &pair.far] {
        end.on(At::Lost, |end, _| {
            end.write(b"too late");
            end.call(|wire| {
                wire.lose_connection();
                wire.abort_connection();
                wire.pause_producing();
                wire.resume_producing();
                wire.fail_connection(Failure::msg("too late"));
            });
        });
    }
    if pair.connect() {
        pair.near.lose();
        pair.both_lost();
        pair.settle();
    }
}
