//! What callbacks may return.
use super::Deferred;
use crate::failure::{Failure, Result};

/// What a callback may return: `()`, `Result<T, Failure>`, `Deferred<T>`; or it may never return.
#[diagnostic::on_unimplemented(
    message = "a callback returns `()`, `Result<_, Failure>` or `Deferred<_>`, not `{Self}`",
    note = "for a plain value write `Ok(value)`; for another error type write `Ok(expression?)`"
)]
pub trait IntoDeferred {
    /// What it gives in the end.
    type Value: 'static;
    /// The Deferred that gives it.
    fn into_deferred(self) -> Deferred<Self::Value>;
}
impl IntoDeferred for () {
    type Value = ();
    fn into_deferred(self) -> Deferred<()> {
        Deferred::succeed(())
    }
}
impl<T: 'static> IntoDeferred for Result<T, Failure> {
    type Value = T;
    fn into_deferred(self) -> Deferred<T> {
        Deferred::ready(self)
    }
}
impl<T: 'static> IntoDeferred for Deferred<T> {
    type Value = T;
    fn into_deferred(self) -> Deferred<T> {
        self
    }
}
/// `spawn(|| loop { .. })` and `add_callback(|_| todo!())`: in edition 2024 such closures return `!`.
mod never {
    pub trait Returns {
        type Output;
    }
    impl<R> Returns for fn() -> R {
        type Output = R;
    }
    pub type Never = <fn() -> ! as Returns>::Output;
}
impl IntoDeferred for never::Never {
    type Value = never::Never;
    fn into_deferred(self) -> Deferred<Self::Value> {
        self
    }
}
