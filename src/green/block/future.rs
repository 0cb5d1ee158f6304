//! Futures in green threads: `block_on_future` waits for one, and awaiting a `GreenThread` is the other way round.
//!
//! No executor is needed: the green thread polls its future itself and parks in between; wakers go through the hub, from
//! whatever thread. What must never happen here: a poll in the loop's place, or a wake-up that is lost between a poll and
//! the park behind it (the `Sleeper` keeps it).
use crate::deferred::{DeferredFuture, IntoDeferred};
use crate::failure::Result;
use crate::green::green_thread::GreenThread;
use crate::green::task::prepare;
use crate::green::task::remote_waker::{RemoteWaker, Sleeper};
use std::future::IntoFuture;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// Runs a future to its end in this green thread, or on MAIN (asyncio's `run_until_complete`, `futures::executor::block_on`).
///
/// Any future of any library will do that wants no other executor's reactor beside it. The loop and the other green threads go
/// on meanwhile, and what the future awaits may be a Deferred, a [`GreenThread`], a channel of an async library or
/// something another OS thread does: its wakers may be used anywhere. The future may borrow from the stack.
///
/// ```
/// use std::time::Duration;
/// use twistlet::Reactor;
/// use twistlet::green::{block_on_future, spawn, sleep};
/// use twistlet::task::defer_later;
///
/// let factor = 6;
/// let product = block_on_future(async {
///     let seven = defer_later(&Reactor::current(), Duration::from_millis(1), || Ok(7)).await?;
///     let one = spawn(|| { sleep(Duration::from_millis(1)); Ok(1) }).await?;
///     Ok::<_, twistlet::Failure>(factor * seven * one)
/// })??;
/// assert_eq!(product, 42);
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Errors
/// As [`block_on`](crate::green::block_on) where the wait is at fault, not the future:
/// [`ReactorError::Stopped`](crate::error::ReactorError::Stopped);
/// [`Deadlock`](crate::error::Deadlock) on MAIN, when nobody has kept the future's waker and nothing else can happen;
/// [`Killed`](crate::error::Killed) in a destructor during a kill. The future has been dropped then.
///
/// # Panics
/// In the main loop and its callbacks, when the future is not ready at once. With a panic of the future.
///
/// # Blocking
/// Until the future is ready. A kill, or the deadline of a `with_timeout`, drops it.
#[track_caller]
pub fn block_on_future<F: Future>(future: F) -> Result<F::Output> {
    let mut future = pin!(future);
    // One that need not wait may be had anywhere. Whom this poll's waker is given to is told another by the next.
    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return Ok(output);
    }
    // Makes the reactor where the thread has none, and says where one cannot wait.
    drop(prepare()?);
    let sleeper = Sleeper::new()?;
    let bell = Arc::new(Bell(sleeper.waker()));
    let waker = Waker::from(Arc::clone(&bell));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(output);
        }
        // When nobody has kept the waker of this poll, nobody ever will.
        sleeper.is_woken_here_only(Arc::strong_count(&bell) == 2);
        sleeper.park("a future", None)?;
    }
}

/// What wakers are made of.
struct Bell(RemoteWaker);
impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

/// Waits for a green thread in an `async fn`: `spawn(..).await?`. Dropped before the end, it kills the green thread, as a
/// dropped future does; to leave it running, await something else that it tells.
impl<T: 'static> IntoFuture for GreenThread<T> {
    type Output = Result<T>;
    type IntoFuture = DeferredFuture<T>;
    fn into_future(self) -> DeferredFuture<T> {
        self.into_deferred().into_future()
    }
}
