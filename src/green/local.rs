//! `local!`: values of which every green thread has its own.
//!
//! They hang off the green thread, in the `store`; those of MAIN and of the main loop, which nobody spawned, off the OS thread.
//! What must never happen here: a value initialised, used or dropped, which is user code, while a store is borrowed.
mod store;

pub(super) use store::Store;

use super::hub::seen::{LOOP, MAIN};
use super::hub::{Hub, running};
use crate::failure;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

/// Declares green-local values: one for every green thread, made when it is first used there (Eventlet's `corolocal.local`).
///
/// In the style of [`thread_local!`](std::thread_local), and for the same things: what would be in a thread-local of a
/// program with a thread per connection. See [`LocalKey`] for what may be done with them and when they are dropped.
///
/// ```
/// use std::cell::Cell;
/// use twistlet::green::{local, spawn, yield_now};
///
/// local! {
///     /// The request that this green thread serves.
///     static REQUEST: Cell<u32> = Cell::new(0);
/// }
///
/// let serve = |number| {
///     move || {
///         REQUEST.set(number);
///         yield_now();
///         Ok(REQUEST.get())
///     }
/// };
/// let (one, two) = (spawn(serve(1)), spawn(serve(2)));
/// assert_eq!((one.wait()?, two.wait()?), (1, 2));
/// assert_eq!(REQUEST.get(), 0); // MAIN's own
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __green_local {
    () => {};
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = const $init:block $(; $($rest:tt)*)?) => {
        $crate::green::local!($(#[$attribute])* $visibility static $name: $type = $init $(; $($rest)*)?);
    };
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $init:expr $(; $($rest:tt)*)?) => {
        $(#[$attribute])*
        $visibility static $name: $crate::green::local::LocalKey<$type> = {
            fn init() -> $type {
                $init
            }
            $crate::green::local::LocalKey::new(init)
        };
        $($crate::green::local!($($rest)*);)?
    };
}
#[doc(inline)]
pub use __green_local as local;

/// A green-local value's name: what [`local!`](super::local!) declares. Its methods are those of [`std::thread::LocalKey`].
///
/// **Its life.** A value is made at its first use in a green thread, and dropped there when the body of the green thread is
/// over: on its own stack, before its outcome is published, so that whoever waited finds it done; those made last are dropped
/// first. While and after a value is dropped it cannot be used, but others may. A destructor may wait, as any code of the green
/// thread; once the green thread was killed waits in it return at once, and it runs to its end. A panic in it is logged.
///
/// MAIN has its own values, and so have the callbacks of the main loop, in which joined MAIN and the main loop are one. These are
/// dropped when the OS thread ends, where nothing waits. Those of a green thread whose stack was leaked are leaked.
///
/// A [`Greenlet`](crate::greenlet::Greenlet) counts as the green thread on top of which it runs.
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
}

/// The value is being dropped or was: what [`LocalKey::try_with`] fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError;
impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the green-local value is being dropped already, since its green thread ends")
    }
}
impl std::error::Error for AccessError {}

impl<T: 'static> LocalKey<T> {
    /// For [`local!`](super::local!), which gives it a place of its own: two keys are told apart by their addresses.
    #[doc(hidden)]
    pub const fn new(init: fn() -> T) -> Self {
        LocalKey { init }
    }
    /// Calls `f` with the running green thread's value, which is made first where there is none.
    ///
    /// # Panics
    /// Where [`try_with`](LocalKey::try_with) fails; with a panic of the initial expression; when that needs the value itself.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => panic!("{error}"),
        }
    }
    /// As [`with`](LocalKey::with), also while values are dropped.
    ///
    /// # Errors
    /// [`AccessError`], `f` not called, when the value is being dropped or was: in its own destructor, and in those that run
    /// after it.
    ///
    /// # Panics
    /// With a panic of the initial expression; when that needs the value itself.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let store = current_store().ok_or(AccessError)?;
        let value = store.get(self.name(), self.init)?;
        Ok(f(&value))
    }
    fn name(&'static self) -> usize {
        std::ptr::from_ref(self) as usize
    }
}
impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the value.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    pub fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }
    /// A copy of the value.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }
    /// The value, in whose place is the default.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }
    /// The value, in whose place is another.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}
impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with the value borrowed. Do not wait in it, unless nobody else in the same green thread borrows mutably.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with), and as [`RefCell::borrow`].
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }
    /// Calls `f` with the value borrowed mutably.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with), and as [`RefCell::borrow_mut`].
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }
    /// Sets the value.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with), and as [`RefCell::borrow_mut`].
    pub fn set(&'static self, value: T) {
        drop(self.replace(value));
    }
    /// The value, in whose place is the default.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with), and as [`RefCell::borrow_mut`].
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }
    /// The value, in whose place is another.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with), and as [`RefCell::borrow_mut`].
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}
impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

/// The number of the running green thread, by which [`debug`](super::debug) calls it too; none gets one that another of the same
/// reactor had (Eventlet's `get_ident`). 0 is the main loop and its callbacks, 1 is MAIN.
///
/// ```
/// use twistlet::green::{local, spawn};
///
/// assert_eq!(local::id(), 1);
/// assert_ne!(spawn(|| Ok(local::id())).wait()?, 1);
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub fn id() -> u64 {
    match running::get() {
        Some(task) => task.id(),
        None if Hub::existing().is_some_and(|hub| hub.is_under_way()) => LOOP,
        None => MAIN,
    }
}

enum Whose {
    Green(Rc<super::task::Task>),
    Main,
    Loop,
}
fn whose() -> Whose {
    match running::get() {
        Some(task) if !task.is_main() => Whose::Green(task),
        Some(_) => Whose::Main,
        // Where the loop has a greenlet of its own, and nobody else runs.
        None if Hub::existing().is_some_and(|hub| hub.has_own_loop()) => Whose::Loop,
        None => Whose::Main,
    }
}

/// The values of those that nobody spawned; dropped when the OS thread ends.
#[derive(Default)]
struct Unspawned {
    main: Rc<Store>,
    main_loop: Rc<Store>,
}
impl Drop for Unspawned {
    fn drop(&mut self) {
        for store in [&self.main_loop, &self.main] {
            if let Err(failure) = failure::catch(|| store.clear("a green-local value of MAIN or the main loop")) {
                failure::report("green-local values", &failure);
            }
        }
    }
}
thread_local! {
    static UNSPAWNED: Unspawned = Unspawned::default();
}

/// `None`: the OS thread ends, and they are dropped already.
fn current_store() -> Option<Rc<Store>> {
    match whose() {
        Whose::Green(task) => Some(task.locals()),
        Whose::Main => UNSPAWNED.try_with(|stores| Rc::clone(&stores.main)).ok(),
        Whose::Loop => UNSPAWNED.try_with(|stores| Rc::clone(&stores.main_loop)).ok(),
    }
}
