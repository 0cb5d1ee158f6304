//! Any text as resolv.conf and as a hosts file: what they give is bounded by what they say.
#![no_main]
use libfuzzer_sys::fuzz_target;
use twistlet::transport::dns::Config;
use twistlet::transport::resolver::Hosts;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    assert!((1..=8).contains(&Config::parse(&text).servers().len()));
    assert!(Hosts::parse(&text).len() <= text.len());
});
