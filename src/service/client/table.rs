//! What a `ClientService` does when: its states, the events that reach it, and the table that leads from one to the next. Knows
//! of nothing else.

/// What it is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Never started.
    Init,
    /// An attempt is under way, or its connection is being prepared.
    Connecting,
    /// For the next attempt.
    Waiting,
    Connected,
    /// Stopped, and not yet rid of the attempt or the connection.
    Disconnecting,
    /// The same, and started again meanwhile.
    Restarting,
    Stopped,
}

/// What happens to it. Those of an attempt that is over are not heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    Start,
    Stop,
    /// The attempt came to nothing, or its connection was not found good.
    Failed,
    /// There is a connection, and it is prepared.
    Ready,
    /// The connection is gone.
    Lost,
    /// The time to try again has come.
    Due,
}

/// What is to be done about it, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Connect,
    /// Gives the attempt up.
    Cancel,
    /// Closes the connection.
    Close,
    /// One more failed attempt; tells those who wait for no more than so many.
    Count,
    /// Until the next attempt.
    Wait,
    /// No longer.
    StopWaiting,
    /// Tells who waits for a connection.
    Deliver,
    /// Tells them that there will be none.
    Dismiss,
    /// Tells who waits for the end.
    TellStopped,
    /// It runs already.
    Warn,
}

/// Where `event` leads from `phase`; `None` where it has no meaning any more.
pub(super) fn next(phase: Phase, event: Event) -> Option<(Phase, &'static [Action])> {
    use Action::*;
    use Event::*;
    use Phase::*;
    Some(match (phase, event) {
        (Init | Stopped, Start) => (Connecting, &[Connect]),
        (Init | Stopped, Stop) => (Stopped, &[Dismiss, TellStopped]),

        (Connecting, Ready) => (Connected, &[Deliver]),
        (Connecting, Failed | Lost) => (Waiting, &[Close, Count, Wait]),
        (Connecting, Stop) => (Disconnecting, &[Cancel]),

        (Waiting, Due) => (Connecting, &[Connect]),
        (Waiting, Stop) => (Stopped, &[StopWaiting, Dismiss, TellStopped]),

        (Connected, Lost) => (Waiting, &[Count, Wait]),
        (Connected, Stop) => (Disconnecting, &[Close]),

        (Disconnecting, Failed | Lost) => (Stopped, &[Dismiss, TellStopped]),
        (Disconnecting, Start) => (Restarting, &[]),
        (Disconnecting, Stop) => (Disconnecting, &[]),

        (Restarting, Failed | Lost) => (Connecting, &[TellStopped, Connect]),
        (Restarting, Stop) => (Disconnecting, &[]),

        (Connecting | Waiting | Connected | Restarting, Start) => (phase, &[Warn]),
        (Init | Stopped, Failed | Ready | Lost | Due)
        | (Connecting, Due)
        | (Waiting, Failed | Ready | Lost)
        | (Connected, Failed | Ready | Due)
        | (Disconnecting | Restarting, Ready | Due) => return None,
    })
}
