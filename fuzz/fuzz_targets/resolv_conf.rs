//! /etc/resolv.conf and /etc/hosts: any text is a configuration, of bounded size.
#![no_main]
use libfuzzer_sys::fuzz_target;
use twistlet::transport::dns::Config;
use twistlet::transport::resolver::Hosts;

fuzz_target!(|text: &str| {
    let config = Config::parse(text);
    assert!(config.servers().len() <= 16, "{:?}", config.servers());
    let hosts = Hosts::parse(text);
    assert!(hosts.len() <= text.len());
});
