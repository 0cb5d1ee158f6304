//! Descriptions of endpoints: any text is an endpoint or an error whose place lies in the text; quoted text is one argument.
#![no_main]
use libfuzzer_sys::fuzz_target;
use twistlet::Reactor;
use twistlet::endpoint::{client_from_string, quote, server_from_string};

fuzz_target!(|text: &str| {
    let reactor = Reactor::current();
    let errors = [client_from_string(&reactor, text).err(), server_from_string(&reactor, text).err()];
    for error in errors.into_iter().flatten() {
        assert!(error.place().end <= text.len() && error.offset() <= text.len());
        assert!(!error.to_string().is_empty());
    }
    if !text.is_empty() && !text.contains('\0') {
        let path = quote(text);
        assert!(client_from_string(&reactor, &format!("unix:path={path}")).is_ok(), "{path:?}");
    }
});
