//! Failures: identity through `?` and `io::Error`, types, panics, what they print.
use std::error::Error;
use std::io;
use std::panic::{catch_unwind, panic_any};
use std::time::Duration;
use twistlet::error::{AllFailed, CannotListen, Killed, LineTooLong};
use twistlet::failure::Panicked;
use twistlet::{Address, Cancelled, ConnectError, ConnectionClosed, Failure, Result, TimedOut};

fn refused() -> ConnectError {
    ConnectError::Refused { to: Address::Tcp("127.0.0.1:1".parse().unwrap()) }
}
fn quiet<R>(f: impl FnOnce() -> R + std::panic::UnwindSafe) -> std::thread::Result<R> {
    std::panic::set_hook(Box::new(|_| {}));
    let result = catch_unwind(f);
    let _ = std::panic::take_hook();
    result
}

#[test]
fn a_failure_is_one_word_and_goes_anywhere() {
    fn assert<T: Clone + Send + Sync + 'static>() {}
    assert::<Failure>();
    assert_eq!(size_of::<Option<Failure>>(), size_of::<usize>());
}

#[test]
fn the_error_is_found_by_its_type_and_trapped_by_its_type() {
    // ERR-1
    let failure = Failure::from(refused());
    assert!(failure.is::<ConnectError>() && !failure.is::<TimedOut>());
    assert!(matches!(failure.check(), Some(ConnectError::Refused { .. })));
    let failure = failure.trap::<TimedOut>().unwrap_err();
    let trapped = failure.clone().trap::<ConnectError>().unwrap();
    assert_eq!(*trapped, refused());
    assert_eq!(Failure::from(trapped), failure);
}

#[test]
fn a_failure_in_a_failure_is_the_same_failure() {
    // ERR-2
    fn inner() -> Result {
        Err(refused())?;
        Ok(())
    }
    fn outer() -> io::Result<()> {
        Ok(inner()?)
    }
    fn back() -> Result {
        Ok(outer()?)
    }
    let failure = back().unwrap_err();
    let twice = Failure::from(io::Error::from(failure.clone()));
    assert_eq!(twice, failure);
    assert!(failure.is::<ConnectError>());
    assert_eq!(io::Error::from(failure).kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn the_origin_is_the_question_mark() {
    fn parse() -> Result<u8> {
        Ok("x".parse::<u8>()?)
    }
    let line = line!() - 2;
    let failure = parse().unwrap_err();
    assert_eq!((failure.origin().file(), failure.origin().line()), (file!(), line));
    let failure = Failure::msg("here");
    assert_eq!(failure.origin().line(), line!() - 1);
    let into: Failure = Cancelled.into();
    assert_eq!(into.origin().file(), file!());
}

#[test]
fn an_error_of_the_system_keeps_its_code() {
    let failure = Failure::from(io::Error::from_raw_os_error(libc_enoent()));
    assert_eq!(failure.kind(), io::ErrorKind::NotFound);
    assert_eq!(io::Error::from(failure).raw_os_error(), Some(libc_enoent()));
}
fn libc_enoent() -> i32 {
    std::fs::read("/no/such/file").unwrap_err().raw_os_error().unwrap()
}

#[test]
fn an_error_inside_an_io_error_is_found_as_itself() {
    let failure = Failure::from(io::Error::other(refused()));
    assert!(failure.is::<ConnectError>() && failure.is::<io::Error>());
    assert_eq!(*failure.trap::<ConnectError>().unwrap(), refused());
}

#[test]
fn a_panic_is_a_failure_with_its_words_and_its_payload() {
    let payload = quiet(|| panic!("number {}", std::hint::black_box(7))).unwrap_err();
    let failure = Failure::from_panic(payload);
    assert!(failure.is_panic());
    assert_eq!(failure.check::<Panicked>().unwrap().message(), "number 7");
    assert_eq!(failure.to_string(), "panicked: number 7");
    let copy = failure.clone();
    assert_eq!(failure.into_panic().unwrap().downcast_ref::<String>().unwrap(), "number 7");
    assert!(copy.into_panic().is_ok());
    let failure = Failure::from_panic(quiet(|| panic_any(5_u8)).unwrap_err());
    assert_eq!(*failure.into_panic().unwrap().downcast::<u8>().unwrap(), 5);
    assert!(Failure::msg("no panic").into_panic().is_err());
}

#[test]
fn a_payload_that_panics_when_dropped_does_not_escape() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic_any(Bomb)
            }
        }
    }
    std::panic::set_hook(Box::new(|_| {}));
    let payload = catch_unwind(|| panic_any(Bomb)).unwrap_err();
    drop(Failure::from_panic(payload));
    let _ = std::panic::take_hook();
}

#[test]
fn it_prints_message_causes_and_origin() {
    let failure = Failure::from(CannotListen::new("0.0.0.0:80", io::Error::other("held by another")));
    assert_eq!(failure.to_string(), "cannot listen at 0.0.0.0:80: held by another");
    let debug = format!("{failure:?}");
    assert!(debug.starts_with("cannot listen at 0.0.0.0:80: held by another (at "), "{debug}");

    #[derive(Debug)]
    struct Outer(LineTooLong);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("request refused")
        }
    }
    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
    let failure = Failure::from(Outer(LineTooLong { limit: 5 }));
    assert!(format!("{failure:?}").contains("request refused: a line is longer than the limit of 5 bytes"));
    assert_eq!(failure.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn kinds_are_never_such_that_std_would_retry() {
    for failure in [
        Failure::from(Cancelled),
        Failure::from(Killed),
        Failure::from(ConnectError::Cancelled),
        Failure::from(ConnectionClosed::Done),
        Failure::from(TimedOut(Duration::from_secs(1))),
    ] {
        assert!(!matches!(failure.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock), "{failure}");
    }
    assert_eq!(Failure::from(ConnectionClosed::Done).kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn connect_errors_are_told_apart_by_errno() {
    // ERR-6
    let to = Address::Tcp("10.0.0.1:80".parse().unwrap());
    let map = |kind: io::ErrorKind| ConnectError::from_io(io::Error::from(kind), &to, Duration::from_secs(3));
    assert_eq!(map(io::ErrorKind::ConnectionRefused), ConnectError::Refused { to: to.clone() });
    assert_eq!(map(io::ErrorKind::NetworkUnreachable), ConnectError::Unreachable { to: to.clone() });
    assert!(matches!(map(io::ErrorKind::TimedOut), ConnectError::TimedOut { after, .. } if after.as_secs() == 3));
    let os = ConnectError::from_io(io::Error::from_raw_os_error(libc_enoent()), &to, Duration::ZERO);
    assert!(matches!(os, ConnectError::Os { code, .. } if code == libc_enoent()));
    let carried = ConnectError::from_io(Failure::from(ConnectError::NoProtocol).into(), &to, Duration::ZERO);
    assert_eq!(carried, ConnectError::NoProtocol);
}

#[test]
fn a_boxed_error_is_the_error_itself() {
    let boxed: Box<dyn Error + Send + Sync> = Failure::from(refused()).into();
    assert!(boxed.is::<ConnectError>());
    let failure = Failure::from(refused());
    let _other = failure.clone();
    assert_eq!(Box::<dyn Error>::from(failure).to_string(), refused().to_string());
}

#[test]
fn a_group_of_failures_names_the_first() {
    let group = AllFailed { failures: vec![Cancelled.into(), Failure::msg("b")] };
    assert_eq!(group.to_string(), "all 2 contestants failed, the first with: the Deferred was cancelled");
}

#[test]
fn addresses_print_as_programs_write_them() {
    let address = Address::Tcp("[::1]:80".parse().unwrap());
    assert_eq!((address.to_string().as_str(), address.port()), ("[::1]:80", Some(80)));
    let address = Address::Unix(Some("/run/x".into()));
    assert_eq!((address.to_string().as_str(), address.port(), address.ip()), ("/run/x", None, None));
    assert_eq!(Address::Gone.to_string(), "a connection that is gone");
}
