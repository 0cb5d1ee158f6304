//! Any text is the description of an endpoint, or an error that points into it; a quoted text means itself.
#![no_main]
use libfuzzer_sys::fuzz_target;
use twistlet::endpoint::{Descriptions, client_from_string, quote, server_from_string};
use twistlet::Reactor;

fuzz_target!(|text: &str| {
    let reactor = Reactor::current();
    let errors = [client_from_string(&reactor, text).err(), server_from_string(&reactor, text).err()];
    for error in errors.into_iter().flatten() {
        assert!(text.get(error.place()).is_some());
        assert_eq!(error.to_string().lines().count(), 3);
    }
    let mut kinds = Descriptions::none();
    let value = text.to_owned();
    kinds.add_client("see", move |arguments| {
        let seen = arguments.take("value")?;
        assert!(seen.is_some_and(|seen| seen.as_str() == value));
        client_from_string(arguments.reactor(), "tcp:host:1")
    });
    assert!(kinds.client(&reactor, &format!("see:value={}", quote(text))).is_ok());
});
