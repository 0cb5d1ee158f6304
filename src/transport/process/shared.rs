//! A `ProcessProtocol` held by a `Shared`: told at once, or, when somebody is inside, as soon as they left.
use super::{ExitReason, ProcessProtocol, ProcessRef};
use crate::shared::Shared;
use std::os::fd::RawFd;

macro_rules! forward { ($($method:ident)+) => { $(
    fn $method(&mut self, process: ProcessRef) {
        self.enter_or_queue(|protocol| protocol.$method(process), || Box::new(move |protocol| protocol.$method(process)));
    }
)+ } }
macro_rules! forward_reason { ($($method:ident)+) => { $(
    fn $method(&mut self, process: ProcessRef, reason: &ExitReason) {
        let reason = *reason;
        self.enter_or_queue(
            |protocol| protocol.$method(process, &reason),
            || Box::new(move |protocol| protocol.$method(process, &reason)),
        );
    }
)+ } }
macro_rules! forward_data { ($($method:ident)+) => { $(
    fn $method(&mut self, process: ProcessRef, data: &[u8]) {
        self.enter_or_queue(|protocol| protocol.$method(process, data), || {
            let data = data.to_vec();
            Box::new(move |protocol| protocol.$method(process, &data))
        });
    }
)+ } }

impl<P: ProcessProtocol + 'static> ProcessProtocol for Shared<P> {
    forward! { connection_made in_connection_lost out_connection_lost err_connection_lost }
    forward_data! { out_received err_received }
    forward_reason! { process_exited process_ended }
    fn child_data_received(&mut self, process: ProcessRef, fd: RawFd, data: &[u8]) {
        self.enter_or_queue(
            |protocol| protocol.child_data_received(process, fd, data),
            || {
                let data = data.to_vec();
                Box::new(move |protocol| protocol.child_data_received(process, fd, &data))
            },
        );
    }
    fn child_connection_lost(&mut self, process: ProcessRef, fd: RawFd) {
        self.enter_or_queue(
            |protocol| protocol.child_connection_lost(process, fd),
            || Box::new(move |protocol| protocol.child_connection_lost(process, fd)),
        );
    }
}
