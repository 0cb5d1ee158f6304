//! `OnceLock` and `LazyLock`: a value made once, by code that may wait.
use super::once::Once;
use std::fmt;
use std::ops::Deref;
use std::sync::{self, Mutex, PoisonError};

/// [`std::sync::OnceLock`], in whose initialiser one may wait.
///
/// ```
/// use twistlet::green::sync::OnceLock;
///
/// static NAME: OnceLock<String> = OnceLock::new();
/// assert_eq!(NAME.get(), None);
/// assert_eq!(NAME.get_or_init(|| "Bob".to_owned()), "Bob");
/// assert_eq!(NAME.set("Ann".to_owned()), Err("Ann".to_owned()));
/// ```
pub struct OnceLock<T> {
    once: Once,
    value: sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    /// One without a value.
    #[must_use]
    pub const fn new() -> Self {
        OnceLock { once: Once::new(), value: sync::OnceLock::new() }
    }
    /// The value, if there is one. Never waits.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }
    /// The value, if there is one. Never waits.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }
    /// Waits for the value.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when there is none.
    ///
    /// # Blocking
    /// Until somebody has set it.
    #[track_caller]
    pub fn wait(&self) -> &T {
        loop {
            self.once.wait_force();
            if let Some(value) = self.get() {
                return value;
            }
        }
    }
    /// Gives it its value.
    ///
    /// # Errors
    /// `value`, when it has one.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when somebody is making it.
    ///
    /// # Blocking
    /// While somebody is making it.
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| match value.take() {
            Some(value) => value,
            None => unreachable!("an initialiser is called once"),
        });
        value.map_or(Ok(()), Err)
    }
    /// The value, which `f` makes when there is none. When `f` panics or is killed there is none after all.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when somebody else is making it. Where `f` does.
    ///
    /// # Blocking
    /// While somebody else is making it. An `f` that needs the value itself waits for ever.
    #[track_caller]
    #[inline]
    pub fn get_or_init<F: FnOnce() -> T>(&self, f: F) -> &T {
        match self.value.get() {
            Some(value) => value,
            None => self.init(f),
        }
    }
    #[cold]
    #[track_caller]
    fn init<F: FnOnce() -> T>(&self, f: F) -> &T {
        self.once.call_once_force(|_| {
            let set = self.value.set(f());
            debug_assert!(set.is_ok(), "only the Once sets it");
        });
        match self.value.get() {
            Some(value) => value,
            None => unreachable!("the Once has run to its end"),
        }
    }
    /// Takes the value out: there is none then.
    pub fn take(&mut self) -> Option<T> {
        self.once = Once::new();
        self.value.take()
    }
    /// The value, if there is one.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}
impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        OnceLock::new()
    }
}
impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> Self {
        self.get().map_or_else(OnceLock::new, |value| OnceLock::from(value.clone()))
    }
}
impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> Self {
        let lock = OnceLock::new();
        lock.get_or_init(|| value);
        lock
    }
}
impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}
impl<T: Eq> Eq for OnceLock<T> {}

/// [`std::sync::LazyLock`], in whose initialiser one may wait.
///
/// When that panics, or its green thread is killed in it, there will never be a value: it can be called once only.
///
/// ```
/// use twistlet::green::sync::LazyLock;
///
/// static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| "one two".split(' ').collect());
/// assert_eq!(WORDS.len(), 2);
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    value: OnceLock<T>,
    init: Mutex<Option<F>>,
}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// One whose value `f` will make.
    pub const fn new(f: F) -> LazyLock<T, F> {
        LazyLock { value: OnceLock::new(), init: Mutex::new(Some(f)) }
    }
    /// The value, made if need be: what dereferencing does.
    ///
    /// # Panics
    /// When the initialiser panics or has panicked, or was killed. In the main loop and its callbacks, while it runs.
    ///
    /// # Blocking
    /// While the initialiser runs.
    #[track_caller]
    #[inline]
    pub fn force(this: &LazyLock<T, F>) -> &T {
        this.value.get_or_init(|| this.run())
    }
    #[cold]
    #[track_caller]
    fn run(&self) -> T {
        let init = self.init.lock().unwrap_or_else(PoisonError::into_inner).take();
        match init {
            Some(init) => init(),
            None => panic!("LazyLock instance has previously been poisoned: its initialiser panicked, or was killed"),
        }
    }
    /// The value, made if need be. Never waits for another.
    ///
    /// # Panics
    /// As [`force`](LazyLock::force).
    #[track_caller]
    pub fn force_mut(this: &mut LazyLock<T, F>) -> &mut T {
        LazyLock::force(this);
        match this.value.get_mut() {
            Some(value) => value,
            None => unreachable!("it was just made"),
        }
    }
}
impl<T, F> LazyLock<T, F> {
    /// The value, if it has been made. Never waits.
    pub fn get(this: &LazyLock<T, F>) -> Option<&T> {
        this.value.get()
    }
    /// The value, if it has been made. Never waits.
    pub fn get_mut(this: &mut LazyLock<T, F>) -> Option<&mut T> {
        this.value.get_mut()
    }
}
impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;
    /// [`force`](LazyLock::force).
    #[track_caller]
    #[inline]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}
impl<T: Default> Default for LazyLock<T> {
    fn default() -> Self {
        LazyLock::new(T::default)
    }
}
impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_tuple("LazyLock");
        match self.value.get() {
            Some(value) => shown.field(value),
            None => shown.field(&format_args!("<uninit>")),
        };
        shown.finish()
    }
}
