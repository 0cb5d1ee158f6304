//! How long a `ClientService` waits between attempts.
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// How long to wait after a failed attempt; any `FnMut(u32) -> Duration` is one. It is given the number of attempts that have
/// failed, or connections that were lost, since the last connection: 1 and more.
pub trait RetryPolicy {
    /// How long to wait.
    fn wait(&mut self, failed_attempts: u32) -> Duration;
}
impl<F: FnMut(u32) -> Duration> RetryPolicy for F {
    fn wait(&mut self, failed_attempts: u32) -> Duration {
        self(failed_attempts)
    }
}

/// Longer from attempt to attempt, up to a limit, and then a random share more (Twisted's `backoffPolicy`): 1.5, 2.25, 3.4, ... 60
/// seconds, and up to one second more. So a thousand clients that were cut off together come back one by one.
///
/// ```
/// use std::time::Duration;
/// use twistlet::service::{ExponentialBackoff, RetryPolicy};
///
/// let mut policy = ExponentialBackoff::new().first(Duration::from_millis(100)).factor(2.0).jitter(Duration::ZERO);
/// assert_eq!(policy.wait(1), Duration::from_millis(200));
/// assert_eq!(policy.wait(2), Duration::from_millis(400));
/// assert_eq!(policy.wait(1_000), Duration::from_secs(60));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ExponentialBackoff {
    first: Duration,
    longest: Duration,
    factor: f64,
    jitter: Duration,
}

impl ExponentialBackoff {
    /// That of Twisted.
    pub fn new() -> Self {
        ExponentialBackoff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            factor: 1.5,
            jitter: Duration::from_secs(1),
        }
    }
    /// What the waits are multiples of. Default: one second.
    pub fn first(mut self, wait: Duration) -> Self {
        self.first = wait;
        self
    }
    /// The longest wait, without its random share. Default: 60 seconds.
    pub fn longest(mut self, wait: Duration) -> Self {
        self.longest = wait;
        self
    }
    /// The growth from one wait to the next; what is less than 1 is 1. Default: 1.5.
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }
    /// How much longer than computed a wait may be; how much it is, is random. Default: one second.
    pub fn jitter(mut self, most: Duration) -> Self {
        self.jitter = most;
        self
    }
}
impl Default for ExponentialBackoff {
    fn default() -> Self {
        Self::new()
    }
}
impl RetryPolicy for ExponentialBackoff {
    fn wait(&mut self, failed_attempts: u32) -> Duration {
        // `max` makes 1 of a NaN too.
        let growth = self.factor.max(1.0).powi(failed_attempts.min(100) as i32);
        let wait = Duration::try_from_secs_f64(self.first.as_secs_f64() * growth);
        let wait = wait.map_or(self.longest, |wait| wait.min(self.longest));
        wait.saturating_add(self.jitter.mul_f64(random()))
    }
}

/// At least 0, less than 1: the hash of nothing, whose keys std takes from the system.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(()) >> 11;
    bits as f64 / (1u64 << 53) as f64
}
